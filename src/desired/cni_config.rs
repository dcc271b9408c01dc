//! Edits the CNI configuration, the file from which the container runtime reads this node's pod
//! network. Reading and writing the file is left to `kernel`.
//!
//! The file may be someone else's work, so [`conf`] edits it instead of rewriting it: an `JsonObject`
//! keeps the text of every key and value, in their order, and only the values that must differ are
//! replaced. A file that is already right comes back byte for byte. Of the plugins, only the first
//! of type `bridge` is edited: its `mtu`, and the ranges of its `host-local` ipam, one set per
//! podCIDR. The format is that of the CNI specification.

use std::{borrow::Cow, fmt};

use ipnet::IpNet;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const REMEDY: &str =
    "remove it, and kinglet writes a new one, or name another file with --cni-conf-file";

/// Returns the new text of the CNI configuration at `path`, whose text is now `text` (`None` if
/// there is no such file). Returns an error with a remedy if the text can't be edited.
pub fn conf(
    path: &str,
    text: Option<&str>,
    pod_cidrs: &[IpNet],
    mtu: Option<u32>,
) -> Result<String, String> {
    let list = path.to_ascii_lowercase().ends_with(".conflist");
    let cidrs: Vec<IpNet> = pod_cidrs.iter().map(IpNet::trunc).collect();
    let text = text.unwrap_or_default();
    let json = text.strip_prefix('\u{feff}').unwrap_or(text);
    if json.trim().is_empty() {
        return Ok(new_config(list, &cidrs, mtu));
    }
    // Check the whole text first, so that an error gives the position in the file.
    if let Err(e) = serde_json::from_str::<&RawValue>(json) {
        return Err(format!("it is not JSON, {e}: correct it, or {REMEDY}"));
    }
    let mut top =
        JsonObject::read(json).ok_or_else(|| format!("it is not a JSON object: {REMEDY}"))?;
    let no_bridge = || format!("it has no plugin of type bridge, which kinglet edits: {REMEDY}");
    if list {
        let plugins: Vec<&RawValue> = serde_json::from_str(top.get("plugins").unwrap_or_default())
            .map_err(|_| format!("it has no list of plugins, as a .conflist must: {REMEDY}"))?;
        let mut plugins: Vec<Cow<'_, str>> = plugins.iter().map(|p| p.get().into()).collect();
        let (at, mut bridge) = (plugins.iter().enumerate())
            .find_map(|(at, text)| Some((at, JsonObject::read(text).filter(is_bridge)?)))
            .ok_or_else(no_bridge)?;
        edit(&mut bridge, &cidrs, mtu)?;
        let bridge = bridge.text();
        plugins[at] = bridge.into();
        let plugins = format!("[{}]", plugins.join(","));
        top.set("plugins", plugins);
    } else if is_bridge(&top) {
        edit(&mut top, &cidrs, mtu)?;
    } else {
        return Err(no_bridge());
    }
    let new = compact(&top.text());
    // A byte order mark is a difference too: Go's parser, and so the runtime, refuses a file that
    // has one.
    let same = json.len() == text.len() && new == compact(json);
    Ok(if same { text.to_owned() } else { new + "\n" })
}

/// Returns the files of a folder, out of `names`, that a container runtime would read instead of
/// `path`. It reads the first file by name that has the suffix of a configuration (libcni's
/// `ConfFiles`).
pub fn before<'a>(
    path: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    let ours = path.rsplit('/').next().unwrap_or(path);
    let suffixes = [".conf", ".conflist", ".json"];
    names
        .into_iter()
        .filter(move |n| *n < ours && suffixes.iter().any(|suffix| n.ends_with(suffix)))
}

/// Returns the file that a container runtime reads instead of `path`; `None` if it reads `path`.
pub fn shadowed_by<'a>(path: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    before(path, names).min()
}

/// Returns a new configuration.
fn new_config(list: bool, cidrs: &[IpNet], mtu: Option<u32>) -> String {
    let mut sets = Vec::new();
    add_missing(&mut sets, Vec::new(), cidrs);
    let mtu = mtu.map(|mtu| format!(r#""mtu":{mtu},"#)).unwrap_or_default();
    let bridge = format!(
        r#""type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"hairpinMode":true,{mtu}"ipam":{{"type":"host-local","ranges":[{}]}}"#,
        sets.join(",")
    );
    let head = r#""cniVersion":"0.3.0","name":"mynet""#;
    if list {
        format!("{{{head},\"plugins\":[{{\"name\":\"kubernetes\",{bridge}}}]}}\n")
    } else {
        format!("{{{head},{bridge}}}\n")
    }
}

fn is_bridge(plugin: &JsonObject<'_>) -> bool {
    plugin.string("type").as_deref() == Some("bridge")
}

/// Sets the `mtu` and the `ipam` of a bridge plugin. Fails if the ipam can't be edited.
fn edit(bridge: &mut JsonObject<'_>, cidrs: &[IpNet], mtu: Option<u32>) -> Result<(), String> {
    let ipam = ipam(bridge.get("ipam"), cidrs)?;
    if let Some(mtu) = mtu {
        bridge.set("mtu", mtu.to_string());
    }
    bridge.set("ipam", ipam);
    Ok(())
}

/// Returns the new text of an ipam, with one set of ranges for each of `cidrs`. Fails if it is not
/// host-local or has another shape than the CNI specification.
fn ipam(text: Option<&str>, cidrs: &[IpNet]) -> Result<String, String> {
    let mut ipam = JsonObject::read(text.unwrap_or("{}"))
        .ok_or_else(|| format!("the ipam of its bridge is not a JSON object: {REMEDY}"))?;
    let kind = ipam.get("type").unwrap_or("\"host-local\"").to_owned();
    if kind != "\"host-local\"" {
        return Err(format!("its ipam is of type {kind}, and kinglet edits host-local: {REMEDY}"));
    }
    ipam.set("type", kind);
    let (mut sets, mut named) = (Vec::new(), Vec::new());
    let old = serde_json::from_str::<Vec<Vec<&RawValue>>>(ipam.get("ranges").unwrap_or("[]"));
    let bad = || format!("the ranges of its ipam are not lists of lists of objects: {REMEDY}");
    for set in old.map_err(|_| bad())? {
        let mut kept = Vec::new();
        for range in set {
            let range = JsonObject::read(range.get()).ok_or_else(bad)?;
            if let Some((net, range)) = matching_range(range, cidrs) {
                named.push(net);
                kept.push(range);
            }
        }
        if !kept.is_empty() {
            sets.push(format!("[{}]", kept.join(",")));
        }
    }
    if let Some(subnet) = ipam.remove("subnet") {
        // The older form has one range in the ipam itself; host-local puts that range first.
        let mut range = JsonObject::default();
        range.set("subnet", subnet);
        for name in ["rangeStart", "rangeEnd", "gateway"] {
            ipam.remove(name).into_iter().for_each(|value| range.set(name, value));
        }
        if let Some((net, range)) = matching_range(range, cidrs)
            && !named.contains(&net)
        {
            named.push(net);
            sets.insert(0, format!("[{range}]"));
        }
    }
    add_missing(&mut sets, named, cidrs);
    if !sets.is_empty() || ipam.position("ranges").is_some() {
        ipam.set("ranges", format!("[{}]", sets.join(",")));
    }
    Ok(ipam.text())
}

/// Returns the network of a range and its text; `None` if the network is not one of `cidrs`.
fn matching_range(mut range: JsonObject<'_>, cidrs: &[IpNet]) -> Option<(IpNet, String)> {
    let subnet: IpNet = range.string("subnet")?.parse().ok()?;
    let net = subnet.trunc();
    if !cidrs.contains(&net) {
        return None;
    }
    if subnet != net {
        range.set("subnet", format!("\"{net}\"")); // host-local refuses a subnet with host bits
    }
    Some((net, range.text()))
}

/// Adds a set for each of `cidrs` that is not in `named`.
fn add_missing(sets: &mut Vec<String>, mut named: Vec<IpNet>, cidrs: &[IpNet]) {
    for net in cidrs {
        if !named.contains(net) {
            named.push(*net);
            sets.push(format!(r#"[{{"subnet":"{net}"}}]"#));
        }
    }
}

/// Returns JSON without the space between its tokens; numbers and strings keep their bytes.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |&c: &char| {
        let was_in_string = in_string;
        in_string ^= c == '"' && !escaped;
        escaped = in_string && !escaped && c == '\\';
        was_in_string || !matches!(c, ' ' | '\t' | '\r' | '\n')
    };
    json.chars().filter(keep).collect()
}

/// A JSON object as the texts of its keys (quoted, with their escapes) and of its values, in order.
/// If a key is there twice, the last one counts, as in Go.
#[derive(Default)]
struct JsonObject<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> JsonObject<'a> {
    /// Parses `json`, which must be one valid JSON value; `None` if it is not an object.
    fn read(json: &'a str) -> Option<Self> {
        serde_json::Deserializer::from_str(json).deserialize_map(JsonObject::default()).ok()
    }

    /// Returns the index of the last key of a name.
    fn position(&self, name: &str) -> Option<usize> {
        let is = |key| serde_json::from_str::<Cow<'_, str>>(key).is_ok_and(|key| key == name);
        self.0.iter().rposition(|(key, _)| is(key))
    }

    /// Returns the text of a value; `None` if it is missing or null.
    fn get(&self, name: &str) -> Option<&str> {
        self.position(name).map(|at| &*self.0[at].1).filter(|value| *value != "null")
    }

    /// Returns the value of a string, without its escapes.
    fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    fn set(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        match self.position(name) {
            Some(at) => self.0[at].1 = value.into(),
            None => self.0.push((format!("\"{name}\"").into(), value.into())),
        }
    }

    /// Removes all entries of a name and returns the last value.
    fn remove(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let last = self.0.remove(self.position(name)?).1;
        while let Some(at) = self.position(name) {
            self.0.remove(at);
        }
        Some(last)
    }

    fn text(&self) -> String {
        let entries: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        format!("{{{}}}", entries.join(","))
    }
}

impl<'de> Visitor<'de> for JsonObject<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            self.0.push((key.get().into(), value.get().into()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "/etc/cni/net.d/10-kuberouter.conflist";
    const SINGLE: &str = "/etc/cni/net.d/10-kuberouter.conf";
    /// kube-router's configuration with hostport chained, formatted as a person would.
    const REAL: &str = r#"{
  "cniVersion": "0.3.0", "name": "mynet", "plugins": [
    {"name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true,
     "x\u0041": [1.50, 1e999, "a \" b \\"],
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.9"}]]}},
    {"type": "portmap", "capabilities": {"snat": true, "portMappings": true}}
]}
"#;

    /// Returns the edited text, after checking that a second edit leaves it unchanged.
    #[track_caller]
    fn edit_twice(path: &str, text: &str, cidrs: &str, mtu: Option<u32>) -> String {
        let cidrs: Vec<IpNet> = cidrs.split(' ').map(|net| net.parse().unwrap()).collect();
        let new = conf(path, Some(text), &cidrs, mtu).unwrap();
        assert_eq!(conf(path, Some(&new), &cidrs, mtu).unwrap(), new);
        new
    }

    #[track_caller]
    fn assert_ipam(old: &str, cidrs: &str, wanted: &str) {
        let plugin = |ipam| format!("{{\"type\":\"bridge\",\"ipam\":{ipam}}}\n");
        assert_eq!(edit_twice(SINGLE, &plugin(old), cidrs, None), plugin(wanted));
    }

    #[test]
    fn a_missing_or_empty_file_becomes_the_default_configuration() {
        let list = r#"{"cniVersion":"0.3.0","name":"mynet","plugins":[{"name":"kubernetes","type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"hairpinMode":true,"mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"fd00:1::/64"}]]}}]}"#;
        let single = r#"{"cniVersion":"0.3.0","name":"mynet","type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]]}}"#;
        for empty in ["", "\u{feff} \n"] {
            let made = edit_twice(LIST, empty, "10.1.2.0/24 fd00:1::/64", Some(1500));
            assert_eq!(made, format!("{list}\n"));
            assert_eq!(edit_twice(SINGLE, empty, "10.1.2.0/24", None), format!("{single}\n"));
        }
        assert_eq!(conf(LIST, None, &[], None), conf(LIST, Some(""), &[], None));
    }

    #[test]
    fn the_template_of_kube_routers_manifests_gets_a_range_and_an_mtu_in_both_formats() {
        let old = r#""type":"bridge","isDefaultGateway":true,"ipam":{"type":"host-local"}"#;
        let new = r#""type":"bridge","isDefaultGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]]},"mtu":1450"#;
        for (path, head, tail) in [
            (LIST, r#"{"cniVersion":"0.3.0","plugins":[{"name":"kubernetes","#, "}]}\n"),
            ("X.CONFLIST", r#"{"plugins":[{"type":"ptp"},{"#, "},{\"type\":\"bridge\"}]}\n"),
            (SINGLE, r#"{"cniVersion":"0.3.0","name":"mynet","#, "}\n"),
        ] {
            let edited = edit_twice(path, &format!("{head}{old}{tail}"), "10.1.2.0/24", Some(1450));
            assert_eq!(edited, format!("{head}{new}{tail}"));
        }
    }

    #[test]
    fn a_file_that_is_already_right_comes_back_byte_for_byte() {
        assert_eq!(edit_twice(LIST, REAL, "10.1.2.0/24 10.1.2.7/24", None), REAL);
    }

    #[test]
    fn a_byte_order_mark_is_accepted_and_removed() {
        let new = edit_twice(LIST, &format!("\u{feff}{REAL}"), "10.1.2.0/24", None);
        assert_eq!(new, compact(REAL) + "\n");
    }

    #[test]
    fn a_change_keeps_the_order_of_keys_and_the_bytes_of_numbers_and_escapes() {
        let new = edit_twice(LIST, REAL, "10.1.3.0/24", None);
        assert_eq!(
            new,
            compact(REAL).replace(r#"2.0/24","rangeEnd":"10.1.2.9""#, r#"3.0/24""#) + "\n"
        );
        assert!(new.contains(r#""x\u0041":[1.50,1e999,"a \" b \\"]"#));
    }

    #[test]
    fn ranges_become_the_pod_cidrs_and_keep_their_other_keys() {
        let old = r#"{"ranges":[[{"gateway":"10.1.2.1","subnet":"10.1.2.5/24"},{"subnet":"10.9.0.0/16"}],[{"subnet":"10.8.0.0/16"}],[]],"type":"host-local"}"#;
        let new = r#"{"ranges":[[{"gateway":"10.1.2.1","subnet":"10.1.2.0/24"}],[{"subnet":"fd00:1::/64"}]],"type":"host-local"}"#;
        assert_ipam(old, "fd00:1::/64 10.1.2.0/24", new);
    }

    #[test]
    fn the_older_subnet_moves_into_the_ranges() {
        let old = r#"{"type":"host-local","gateway":"10.1.2.1","subnet":"10.1.2.0/24","rangeEnd":"10.1.2.9","routes":[]}"#;
        let moved = r#"{"type":"host-local","routes":[],"ranges":[[{"subnet":"10.1.2.0/24","rangeEnd":"10.1.2.9","gateway":"10.1.2.1"}]]}"#;
        let new = r#"{"type":"host-local","routes":[],"ranges":[[{"subnet":"10.1.3.0/24"}]]}"#;
        assert_ipam(old, "10.1.2.0/24", moved);
        assert_ipam(old, "10.1.3.0/24", new);
    }

    #[test]
    fn a_missing_ipam_becomes_host_local() {
        let new = r#"{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]]}"#;
        assert_ipam("null", "10.1.2.0/24", new);
        assert_ipam("{}", "10.1.2.0/24", new);
    }

    #[test]
    fn a_file_that_cannot_be_edited_is_an_error_with_a_remedy() {
        for (path, text, cause) in [
            (LIST, "{\n  \"plugins\": [}", "it is not JSON, expected value at line 2 column 15: "),
            (LIST, "[]", "it is not a JSON object: "),
            (LIST, r#"{"type":"bridge"}"#, "it has no list of plugins, "),
            (LIST, r#"{"plugins":[{"type":"ptp"},7]}"#, "it has no plugin of type bridge, "),
            (SINGLE, r#"{"plugins":[{"type":"bridge"}]}"#, "it has no plugin of type bridge, "),
            (SINGLE, r#"{"type":"bridge","ipam":7}"#, "the ipam of its bridge is not "),
            (SINGLE, r#"{"type":"bridge","ipam":{"type":"dhcp"}}"#, "its ipam is of type \"dhcp\""),
            (SINGLE, r#"{"type":"bridge","ipam":{"ranges":[7]}}"#, "the ranges of its ipam "),
        ] {
            let error = conf(path, Some(text), &[], None).unwrap_err();
            assert!(error.starts_with(cause) && error.ends_with(REMEDY), "{error}");
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let (open, close) = ("[".repeat(1 << 18), "]".repeat(1 << 18));
        assert!(conf(LIST, Some(&open), &[], None).is_err());
        let text = format!(r#"{{"type":"bridge","x":{open}{close}}}"#);
        assert!(edit_twice(SINGLE, &text, "10.1.2.0/24", None).contains(&close));
    }

    #[test]
    fn mutated_files_never_panic_and_each_edited_one_is_json_that_stays_unchanged() {
        let pieces: Vec<_> =
            r#"{ } [ ] , : " \ null 7 "type" "ipam" "subnet""#.split(' ').collect();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); // Knuth's MMIX
            (seed >> 33) as usize % below
        };
        let net = ["10.1.3.0/24".parse().unwrap()];
        let mut edited = 0;
        for _ in 0..10_000 {
            let mut text = REAL.to_owned();
            for _ in 0..=random(3) {
                let at = random(text.len() - 4);
                text.replace_range(at..at + random(4), pieces[random(pieces.len())]);
            }
            if let Ok(new) = conf(LIST, Some(&text), &net, Some(1400)) {
                serde_json::from_str::<&RawValue>(&new).unwrap();
                assert_eq!(conf(LIST, Some(&new), &net, Some(1400)).unwrap(), new);
                edited += 1;
            }
        }
        assert!(edited > 100, "only {edited} were edited");
    }

    #[test]
    fn the_first_configuration_by_name_shadows_ours() {
        let names = ["10-kuberouter.conflist", "05-b.json", "00-a.bak", "05-a.conf", "99-z.conf"];
        assert_eq!(shadowed_by(LIST, names), Some("05-a.conf"));
        assert_eq!(shadowed_by(LIST, ["10-kuberouter.conf"]), Some("10-kuberouter.conf"));
        assert_eq!(shadowed_by(LIST, ["10-kuberouter.conflist", "11-a.conf"]), None);
    }
}
