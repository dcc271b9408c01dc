use std::os::unix::fs::PermissionsExt;

use super::{super::serve, *};
use crate::{
    api::from_list,
    cluster::{News, What},
};

const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder =
            std::env::temp_dir().join(format!("kinglet-snapshot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Folder(folder)
    }

    fn file(&self) -> File {
        File::new(Some(self.path()), identity())
    }

    fn path(&self) -> PathBuf {
        self.0.join("deep/snapshot")
    }

    fn is_renamed_to_bad(&self) -> bool {
        !self.path().exists() && self.0.join("deep/snapshot.bad").exists()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity() -> Identity {
    Identity { server: "https://192.0.2.1:6443".into(), ca: 7, node: "node-1".into() }
}

fn contact() -> Contact {
    Contact { uid: Some("u-1".into()), endpoints: 0 }
}

/// Returns a store with the recorded objects of all three kinds, each listed in this run.
fn known() -> Known {
    let mut known = Known::new(Cluster::default(), Few::new(), &ALL);
    for (kind, name) in ALL.iter().zip(["nodes", "services", "endpointslices"]) {
        let mut reading = from_list_of(*kind, name);
        reading.versions.insert(*kind, "411".into());
        known.hear(News { kind: *kind, what: What::All(reading) });
    }
    known
}

fn from_list_of(kind: Kind, name: &str) -> crate::cluster::Reading {
    let reading = from_list(&serve::recorded(&format!("list/{name}.json"))[..]).unwrap();
    assert!(!reading.cluster.is_empty_of(kind));
    reading
}

/// Saves and settles.
fn write_now(file: &mut File, known: &Known, listed: u64) -> error::Result<bool> {
    file.save(known, listed, &contact()).and_then(|_| file.settle())
}

#[test]
fn a_snapshot_reads_back_and_is_rewritten_only_after_a_change() {
    let folder = Folder::new("back");
    let (mut file, mut known) = (folder.file(), known());
    assert!(file.load().is_none());
    assert!(write_now(&mut file, &known, 1000).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path()), 0o600);
    assert_eq!(mode(folder.path().parent().unwrap()), 0o700);
    assert!(!write_now(&mut file, &known, 1000).unwrap(), "nothing changed");

    let mut again = folder.file();
    let got = again.load().unwrap();
    assert_eq!(got.cluster, known.cluster);
    assert_eq!((got.versions, got.listed, got.contact), (known.versions.clone(), 1000, contact()));
    assert!(!write_now(&mut again, &known, 1000).unwrap(), "nothing changed since it was read");
    known.versions.insert(Kind::Node, "500".into());
    assert!(
        !write_now(&mut again, &known, 1000).unwrap(),
        "a version alone is not written at once"
    );
    again.last.as_mut().unwrap().0.written -= VERSIONS_ONLY_INTERVAL;
    assert!(write_now(&mut again, &known, 1000).unwrap(), "it is written after the interval");
    assert!(write_now(&mut again, &known, 1001).unwrap(), "a full list was made");
    let first = known.cluster.nodes.keys().next().unwrap().clone();
    known.cluster.nodes.remove(&first);
    assert!(write_now(&mut again, &known, 1001).unwrap());
    let got = folder.file().load().unwrap();
    assert_eq!(
        (got.cluster.nodes.len(), got.versions.get(&Kind::Node)),
        (2, Some(&"500".to_owned()))
    );
    assert!(!folder.0.join("deep/snapshot.new").exists());
}

#[test]
fn a_kind_with_an_invalid_object_has_no_version_in_the_snapshot() {
    let (folder, mut known) = (Folder::new("kind"), known());
    let name = known.cluster.services.keys().next().unwrap().clone();
    let what = What::One { name, now: Err("it is odd".into()), version: "412".into() };
    known.hear(News { kind: Kind::Service, what });
    write_now(&mut folder.file(), &known, 1000).unwrap();
    let got = folder.file().load().unwrap();
    assert_eq!(got.versions.keys().copied().collect::<Vec<_>>(), [Kind::Node, Kind::EndpointSlice]);
    assert_eq!(got.cluster.services.len(), 24);
}

#[test]
fn a_snapshot_of_another_cluster_is_renamed_to_bad() {
    for (name, other) in [
        ("server", Identity { server: "https://192.0.2.2:6443".into(), ..identity() }),
        ("ca", Identity { ca: 8, ..identity() }),
    ] {
        let folder = Folder::new(name);
        write_now(&mut folder.file(), &known(), 1000).unwrap();
        let mut file = File::new(Some(folder.path()), other);
        assert!(file.load().is_none() && folder.is_renamed_to_bad());
        assert!(write_now(&mut file, &known(), 1000).unwrap(), "a new one is written");
        assert!(file.load().is_some());
    }
    let folder = Folder::new("node");
    write_now(&mut folder.file(), &known(), 1000).unwrap();
    let node = Identity { node: "node-2".into(), ..identity() };
    let got = File::new(Some(folder.path()), node).load().unwrap();
    assert_eq!(got.contact.uid, None, "the uid is of another Node");
}

#[test]
fn a_damaged_cut_or_newer_snapshot_is_renamed_to_bad() {
    let folder = Folder::new("bad");
    write_now(&mut folder.file(), &known(), 1000).unwrap();
    let good = fs::read(folder.path()).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![
        b"".into(),
        b"\n".into(),
        b"nothing".into(),
        b"\xff\xfe\n".into(),
        b"kinglet snapshot 3\nwhatever".into(),
        b"kinglet snapshot 1\n{}\nend 0 0\n".into(),
        b"kinglet snapshot 2\n{}\nend 0 0\n".into(),
    ];
    cases.extend((0..good.len()).step_by(good.len() / 40).map(|end| good[..end].to_vec()));
    cases.extend((0..good.len()).step_by(good.len() / 40).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    }));
    // One missing line; all others are intact.
    let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
    cases.push([&lines[..5], &lines[6..]].concat().concat());
    for case in cases {
        let _ = fs::remove_file(folder.0.join("deep/snapshot.bad"));
        fs::write(folder.path(), &case).unwrap();
        let got = folder.file().load();
        assert!(got.is_none() && folder.is_renamed_to_bad(), "{}", String::from_utf8_lossy(&case));
    }
}

#[test]
fn a_snapshot_of_the_old_format_loads_without_versions() {
    let folder = Folder::new("before");
    write_now(&mut folder.file(), &known(), 1000).unwrap();
    let text = fs::read_to_string(folder.path()).unwrap();
    let (body, end) = text.rsplit_once("end ").unwrap();
    let body = body.replacen(FORMAT, OLD_FORMAT, 1);
    let mut sum = Sum::default();
    sum.add(body.as_bytes());
    let count = end.split(' ').next().unwrap();
    fs::write(folder.path(), format!("{body}end {count} {:016x}\n", sum.0)).unwrap();

    let mut file = folder.file();
    let got = file.load().unwrap();
    assert_eq!((got.cluster, got.versions.len()), (known().cluster, 0));
    assert!(write_now(&mut file, &known(), 1000).unwrap(), "it is rewritten in the new format");
    let again = fs::read_to_string(folder.path()).unwrap();
    assert!(again.starts_with(FORMAT));
}

#[test]
fn without_a_path_nothing_is_written_and_a_failed_write_is_reported_once() {
    let mut none = File::new(None, identity());
    assert!(none.load().is_none() && !write_now(&mut none, &known(), 1).unwrap());
    let folder = Folder::new("place");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("deep"), "a file").unwrap();
    let mut file = folder.file();
    let why = write_now(&mut file, &known(), 1).unwrap_err().to_string();
    assert!(why.starts_with("writing the snapshot /"), "{why}");
    assert!(!write_now(&mut file, &known(), 2).unwrap());
}

#[test]
fn the_age_is_unknown_if_the_clock_is_before_the_snapshot() {
    let past = Snapshot { listed: now() - 50, ..Snapshot::default() };
    assert!(past.age().unwrap().as_secs() >= 50);
    let future = Snapshot { listed: now() + 50, ..Snapshot::default() };
    assert_eq!(future.age(), None);
}

#[test]
fn the_hash_is_fnv_1a() {
    let mut sum = Sum::default();
    sum.add(b"foobar");
    assert_eq!(sum.0, 0x8594_4171_f739_67e8); // from the test vectors of the reference implementation
}
