use super::*;

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("apiserver-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn write(dir: &Path, items: &str) {
    let list = format!("{{\"metadata\":{{\"resourceVersion\":\"10\"}},\"items\":[{items}]}}");
    fs::write(dir.join("new"), list).unwrap();
    fs::rename(dir.join("new"), dir.join("nodes.json")).unwrap();
}

fn nodes() -> &'static Resource {
    &RESOURCES[0]
}

const A: &str = r#"{"metadata":{"name":"a","resourceVersion":"7"},"spec":{}}"#;
const A2: &str = r#"{"metadata":{"name":"a","resourceVersion":"7"},"spec":{"podCIDR":"x"}}"#;
const B: &str = r#"{"metadata":{"name":"b","resourceVersion":"8"},"spec":{}}"#;

#[test]
fn each_changed_object_of_a_file_makes_an_event_with_its_own_revision() {
    let dir = folder("events");
    write(&dir, &format!("{A},{B}"));
    let store = Store::open(&dir, 0);
    assert_eq!(store.revision(), 10);
    assert_eq!(*store.now(nodes()).1.items[0].text, *A, "unchanged objects keep their bytes");
    write(&dir, A2);
    store.refresh();
    let (now, events) = store.after(nodes(), 10).unwrap();
    assert_eq!((now, events.len()), (12, 2));
    assert_eq!(events[0].new.as_ref().unwrap().text, Arc::from(A2.replace("\"7\"", "\"11\"")));
    assert_eq!((events[1].revision, events[1].old.as_ref().unwrap().key.as_str()), (12, "b"));
    store.refresh();
    assert_eq!(store.revision(), 12, "nothing changed, nothing moved");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_old_version_stays_for_clients_that_read_its_pages() {
    let dir = folder("versions");
    write(&dir, &format!("{A},{B}"));
    let store = Store::open(&dir, 0);
    write(&dir, A);
    store.refresh();
    assert_eq!(store.at(nodes(), 10).unwrap().items.len(), 2);
    assert_eq!(store.at(nodes(), 11).unwrap().items.len(), 1);
    assert_eq!(store.at(nodes(), 9).unwrap_err(), Expired { oldest: 10 });
    for _ in 0..VERSIONS {
        store.write(nodes(), "b", Some(B));
    }
    assert!(store.at(nodes(), 10).is_err());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_half_written_file_changes_nothing() {
    let dir = folder("half");
    write(&dir, A);
    let store = Store::open(&dir, 0);
    fs::write(dir.join("nodes.json"), "{\"items\":[{\"meta").unwrap();
    store.refresh();
    assert_eq!(store.now(nodes()).1.items.len(), 1);
    fs::remove_file(dir.join("nodes.json")).unwrap();
    store.refresh();
    assert_eq!(store.now(nodes()).1.items.len(), 0, "no file, no objects");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_write_and_a_removal_are_events() {
    let dir = folder("write");
    let store = Store::open(&dir, 100);
    assert!(store.write(nodes(), "a", None).is_none());
    store.write(nodes(), "a", Some(A)).unwrap();
    store.write(nodes(), "a", None).unwrap();
    let (now, events) = store.after(nodes(), 100).unwrap();
    assert_eq!((now, events.len()), (102, 2));
    assert!(events[1].new.is_none() && events[1].old.is_some());
    fs::remove_dir_all(dir).unwrap();
}
