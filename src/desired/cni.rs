//! The CNI configuration: the file from which the container runtime learns this node's pod network.
//!
//! The file may be someone else's work, so it is edited and not rewritten: an [`Object`] keeps the
//! text of every key and value, in their order, and only what must differ is replaced. A file that
//! already says what it should comes back byte for byte. Of the plugins only the first of type
//! `bridge` is touched: its `mtu`, and the ranges of its `host-local` ipam, one set per podCIDR.
//! Reading and writing the file is left to others; the format is that of the CNI specification.

use std::{borrow::Cow, fmt};

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const REMEDY: &str =
    "remove it and kinglet makes its own, or name another file with --cni-conf-file";

/// The new text of the CNI configuration at `path`, which now reads `text`; or why it can't be
/// edited and what to do about it.
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
        return Ok(made(list, &cidrs, mtu));
    }
    // The whole of it first, so that the position of a mistake is that in the file.
    if let Err(e) = serde_json::from_str::<&RawValue>(json) {
        return Err(format!("it is not JSON, {e}: correct it, or {REMEDY}"));
    }
    let mut top = Object::read(json).ok_or_else(|| format!("it is not a JSON object: {REMEDY}"))?;
    if list {
        let plugins =
            top.get("plugins").and_then(|p| serde_json::from_str::<Vec<&RawValue>>(p).ok());
        let plugins = plugins.ok_or_else(|| {
            format!("it has no list of plugins, which a .conflist must have: {REMEDY}")
        })?;
        let mut plugins: Vec<Cow<'_, str>> = plugins.iter().map(|p| p.get().into()).collect();
        let (at, mut bridge) = (plugins.iter().enumerate())
            .find_map(|(at, text)| Some((at, Object::read(text).filter(is_bridge)?)))
            .ok_or_else(no_bridge)?;
        edit(&mut bridge, &cidrs, mtu)?;
        let bridge = bridge.to_string();
        plugins[at] = bridge.into();
        let plugins = format!("[{}]", plugins.join(","));
        top.set("plugins", plugins);
    } else if is_bridge(&top) {
        edit(&mut top, &cidrs, mtu)?;
    } else {
        return Err(no_bridge());
    }
    let new = compact(&top.to_string());
    // A byte order mark is a difference too: Go's parser, and so the runtime, refuses the file.
    if json.len() == text.len() && new == compact(json) {
        Ok(text.to_owned())
    } else {
        Ok(new + "\n")
    }
}

/// The file of the folder, out of `names`, that a container runtime takes instead of `path`: it
/// reads the first by name of those that end as a configuration does (libcni's `ConfFiles`).
pub fn shadowed_by<'a>(path: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ours = path.rsplit('/').next().unwrap_or(path);
    let is_conf =
        |name: &str| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    names.into_iter().filter(|name| is_conf(name) && *name < ours).min()
}

/// The configuration where there is none.
fn made(list: bool, cidrs: &[IpNet], mtu: Option<u32>) -> String {
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

fn no_bridge() -> String {
    format!(
        "it has no plugin of type bridge, the only one that kinglet can give a podCIDR: {REMEDY}"
    )
}

fn is_bridge(plugin: &Object<'_>) -> bool {
    plugin.string("type").as_deref() == Some("bridge")
}

fn edit(bridge: &mut Object<'_>, cidrs: &[IpNet], mtu: Option<u32>) -> Result<(), String> {
    let ipam = ipam(bridge.get("ipam"), cidrs)?;
    if let Some(mtu) = mtu
        && bridge.get("mtu").and_then(|old| old.parse().ok()) != Some(mtu)
    {
        bridge.set("mtu", mtu.to_string());
    }
    bridge.set("ipam", ipam);
    Ok(())
}

fn ipam(text: Option<&str>, cidrs: &[IpNet]) -> Result<String, String> {
    let mut ipam = Object::read(text.unwrap_or("{}"))
        .ok_or_else(|| format!("the ipam of its bridge plugin is not a JSON object: {REMEDY}"))?;
    match ipam.get("type") {
        None => ipam.set("type", r#""host-local""#),
        Some(kind) if ipam.string("type").as_deref() != Some("host-local") => {
            return Err(format!(
                "the ipam of its bridge plugin is of type {kind} and not \"host-local\", the only \
                 one that kinglet can give a podCIDR: {REMEDY}"
            ));
        }
        Some(_) => {}
    }
    let (mut sets, mut named) = (Vec::new(), Vec::new());
    let old = serde_json::from_str::<Vec<Vec<&RawValue>>>(ipam.get("ranges").unwrap_or("[]"));
    let bad = || format!("the ranges of its ipam are not lists of lists of objects: {REMEDY}");
    for set in old.map_err(|_| bad())? {
        let mut kept = Vec::new();
        for range in set {
            let range = Object::read(range.get()).ok_or_else(bad)?;
            if let Some((net, range)) = of_cidr(range, cidrs) {
                named.push(net);
                kept.push(range);
            }
        }
        if !kept.is_empty() {
            sets.push(format!("[{}]", kept.join(",")));
        }
    }
    if ipam.has("subnet") {
        // The older form, one range written into the ipam itself; host-local puts it first.
        let mut range = Object::default();
        for name in ["subnet", "rangeStart", "rangeEnd", "gateway"] {
            if let Some(value) = ipam.remove(name) {
                range.set(name, value);
            }
        }
        if let Some((net, range)) = of_cidr(range, cidrs)
            && !named.contains(&net)
        {
            named.push(net);
            sets.insert(0, format!("[{range}]"));
        }
    }
    add_missing(&mut sets, named, cidrs);
    if !sets.is_empty() || ipam.has("ranges") {
        ipam.set("ranges", format!("[{}]", sets.join(",")));
    }
    Ok(ipam.to_string())
}

/// The range and its network, if that is one of `cidrs`.
fn of_cidr(mut range: Object<'_>, cidrs: &[IpNet]) -> Option<(IpNet, String)> {
    let subnet: IpNet = range.string("subnet")?.parse().ok()?;
    let net = subnet.trunc();
    if !cidrs.contains(&net) {
        return None;
    }
    if subnet != net {
        range.set("subnet", format!("\"{net}\"")); // host-local refuses a subnet with host bits
    }
    Some((net, range.to_string()))
}

fn add_missing(sets: &mut Vec<String>, mut named: Vec<IpNet>, cidrs: &[IpNet]) {
    for net in cidrs {
        if !named.contains(net) {
            named.push(*net);
            sets.push(format!(r#"[{{"subnet":"{net}"}}]"#));
        }
    }
}

/// JSON without the space between its tokens; numbers and strings keep their bytes.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let mut keep = |c: char| {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            return true;
        }
        in_string = c == '"';
        !matches!(c, ' ' | '\t' | '\r' | '\n')
    };
    json.chars().filter(|&c| keep(c)).collect()
}

/// A JSON object as the texts of its keys (quoted, escapes as they stand) and of its values, in
/// order. Where a key is there twice the last one counts, as in Go.
#[derive(Default)]
struct Object<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Object<'a> {
    fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().rposition(|(key, _)| is(key, name))
    }

    fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// The text of a value; a null is as good as none.
    fn get(&self, name: &str) -> Option<&str> {
        self.position(name).map(|at| &*self.0[at].1).filter(|value| *value != "null")
    }

    fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    fn set(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        match self.position(name) {
            Some(at) => self.0[at].1 = value.into(),
            None => self.0.push((format!("\"{name}\"").into(), value.into())),
        }
    }

    fn remove(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.position(name).map(|at| self.0[at].1.clone());
        self.0.retain(|(key, _)| !is(key, name));
        value
    }
}

/// Whether the key with this text is `name`, however it is escaped.
fn is(key: &str, name: &str) -> bool {
    serde_json::from_str::<Cow<'_, str>>(key).is_ok_and(|key| key == name)
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}:{value}", if i == 0 { '{' } else { ',' })?;
        }
        f.write_str(if self.0.is_empty() { "{}" } else { "}" })
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    object.0.push((key.get().into(), value.get().into()));
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "/etc/cni/net.d/10-kuberouter.conflist";
    const SINGLE: &str = "/etc/cni/net.d/10-kuberouter.conf";
    /// kube-router's, with hostport chained, as a person would lay it out.
    const REAL: &str = r#"{
  "cniVersion": "0.3.0", "name": "mynet",
  "plugins": [
    {"name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true,
     "x\u0041": [1.50, 1e999, "a \" b \\"],
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9"}]]}},
    {"type": "portmap", "capabilities": {"snat": true, "portMappings": true}}
  ]
}
"#;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    /// The new text, which is the same once more.
    #[track_caller]
    fn settled(path: &str, text: &str, cidrs: &str, mtu: Option<u32>) -> String {
        let new = conf(path, Some(text), &nets(cidrs), mtu).unwrap();
        assert_eq!(conf(path, Some(&new), &nets(cidrs), mtu).unwrap(), new);
        new
    }

    /// What becomes of an ipam, in a single plugin.
    #[track_caller]
    fn ipam_of(ipam: &str, cidrs: &str) -> String {
        let new = settled(SINGLE, &format!(r#"{{"type":"bridge","ipam":{ipam}}}"#), cidrs, None);
        new.strip_prefix(r#"{"type":"bridge","ipam":"#)
            .unwrap()
            .trim_end()
            .strip_suffix('}')
            .unwrap()
            .to_owned()
    }

    #[test]
    fn where_there_is_nothing_the_configuration_of_the_workshop_is_made() {
        let list = r#"{"cniVersion":"0.3.0","name":"mynet","plugins":[{"name":"kubernetes","type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"hairpinMode":true,"mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"fd00:1::/64"}]]}}]}"#;
        let cidrs = "10.1.2.0/24 fd00:1::/64";
        assert_eq!(settled(LIST, "", cidrs, Some(1500)).trim_end(), list);
        assert_eq!(
            conf(LIST, None, &nets(cidrs), Some(1500)),
            conf(LIST, Some("\u{feff} \n"), &nets(cidrs), Some(1500))
        );
        let single = r#"{"cniVersion":"0.3.0","name":"mynet","type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]]}}"#;
        assert_eq!(settled(SINGLE, "", "10.1.2.0/24", None).trim_end(), single);
    }

    #[test]
    fn the_template_of_the_manifests_gets_a_range_and_an_mtu_in_both_formats() {
        let plugin = r#""type":"bridge","bridge":"kube-bridge","isDefaultGateway":true,"ipam":{"type":"host-local""#;
        for (path, head, tail) in [
            (
                LIST,
                r#"{"cniVersion":"0.3.0","name":"mynet","plugins":[{"name":"kubernetes","#,
                "]}",
            ),
            ("X.CONFLIST", r#"{"plugins":[{"type":"loopback"},{"#, r#",{"type":"bridge"}]}"#),
            (SINGLE, r#"{"cniVersion":"0.3.0","name":"mynet","#, ""),
        ] {
            assert_eq!(
                settled(path, &format!("{head}{plugin}}}}}{tail}\n"), "10.1.2.0/24", Some(1450)),
                format!(
                    "{head}{plugin},\"ranges\":[[{{\"subnet\":\"10.1.2.0/24\"}}]]}},\"mtu\":1450}}{tail}\n"
                )
            );
        }
    }

    #[test]
    fn what_need_not_change_comes_back_byte_for_byte() {
        assert_eq!(settled(LIST, REAL, "10.1.2.0/24", None), REAL);
        assert_eq!(settled(LIST, REAL, "10.1.2.7/24", None), REAL);
    }

    #[test]
    fn a_byte_order_mark_is_read_and_not_written() {
        assert_eq!(
            settled(LIST, &format!("\u{feff}{REAL}"), "10.1.2.0/24", None),
            compact(REAL) + "\n"
        );
    }

    #[test]
    fn a_change_keeps_the_order_of_keys_and_the_bytes_of_numbers_and_escapes() {
        let wanted = compact(REAL).replace(
            r#"{"subnet":"10.1.2.0/24","rangeStart":"10.1.2.9"}"#,
            r#"{"subnet":"10.1.3.0/24"}"#,
        ) + "\n";
        assert_eq!(settled(LIST, REAL, "10.1.3.0/24", None), wanted);
        assert!(wanted.contains(r#""x\u0041":[1.50,1e999,"a \" b \\"]"#));
    }

    #[test]
    fn ranges_follow_the_pod_cidrs_and_keep_their_other_keys() {
        assert_eq!(
            ipam_of(
                r#"{"ranges":[[{"gateway":"10.1.2.1","subnet":"10.1.2.5/24"},{"subnet":"10.9.0.0/16"}],[{"subnet":"10.8.0.0/16"}],[]],"type":"host-local"}"#,
                "fd00:1::/64 10.1.2.0/24"
            ),
            r#"{"ranges":[[{"gateway":"10.1.2.1","subnet":"10.1.2.0/24"}],[{"subnet":"fd00:1::/64"}]],"type":"host-local"}"#
        );
    }

    #[test]
    fn the_older_subnet_moves_into_the_ranges() {
        let old = r#"{"type":"host-local","gateway":"10.1.2.1","subnet":"10.1.2.0/24","rangeEnd":"10.1.2.9","routes":[]}"#;
        let new = |range| {
            format!(r#"{{"type":"host-local","routes":[],"ranges":[[{{"subnet":{range}}}]]}}"#)
        };
        assert_eq!(
            ipam_of(old, "10.1.2.0/24"),
            new(r#""10.1.2.0/24","rangeEnd":"10.1.2.9","gateway":"10.1.2.1""#)
        );
        assert_eq!(ipam_of(old, "10.1.3.0/24"), new(r#""10.1.3.0/24""#));
    }

    #[test]
    fn a_missing_ipam_becomes_host_local() {
        for ipam in ["null", "{}"] {
            assert_eq!(
                ipam_of(ipam, "10.1.2.0/24"),
                r#"{"type":"host-local","ranges":[[{"subnet":"10.1.2.0/24"}]]}"#
            );
        }
    }

    #[test]
    fn what_cannot_be_edited_is_an_error_that_says_what_to_do() {
        for (path, text, cause) in [
            (LIST, "{\n  \"plugins\": [}", "it is not JSON, expected value at line 2 column 15: "),
            (LIST, "[]", "it is not a JSON object: "),
            (LIST, r#"{"type":"bridge"}"#, "it has no list of plugins, "),
            (LIST, r#"{"plugins":[{"type":"ptp"},7]}"#, "it has no plugin of type bridge, "),
            (SINGLE, r#"{"plugins":[{"type":"bridge"}]}"#, "it has no plugin of type bridge, "),
            (SINGLE, r#"{"type":"bridge","ipam":7}"#, "the ipam of its bridge plugin is not "),
            (
                SINGLE,
                r#"{"type":"bridge","ipam":{"type":"dhcp"}}"#,
                "the ipam of its bridge plugin is of type \"dhcp\" ",
            ),
            (
                SINGLE,
                r#"{"type":"bridge","ipam":{"ranges":[7]}}"#,
                "the ranges of its ipam are not ",
            ),
        ] {
            let error = conf(path, Some(text), &nets("10.1.2.0/24"), None).unwrap_err();
            assert!(error.starts_with(cause) && error.ends_with(REMEDY), "{error}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(conf(LIST, Some(&open), &[], None).is_err());
        let text = format!(r#"{{"type":"bridge","x":{open}{close}}}"#);
        assert!(settled(SINGLE, &text, "10.1.2.0/24", None).contains(&close));
    }

    #[test]
    fn no_mutation_panics_and_each_result_is_settled_json() {
        let pieces: Vec<&[u8]> = "{ } [ ] , : \" \\ null 7 \"type\" \"ipam\" \"subnet\" \"bridge\""
            .split(' ')
            .map(str::as_bytes)
            .collect();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let mut edited = 0;
        for _ in 0..20_000 {
            let mut bytes = REAL.as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                let end = (at + random(4)).min(bytes.len());
                bytes.splice(at..end, pieces[random(pieces.len())].iter().copied());
            }
            let text = String::from_utf8_lossy(&bytes);
            let path = [LIST, SINGLE][random(2)];
            if let Ok(new) = conf(path, Some(&text), &nets("10.1.3.0/24"), Some(1400)) {
                serde_json::from_str::<&RawValue>(&new).unwrap();
                assert_eq!(conf(path, Some(&new), &nets("10.1.3.0/24"), Some(1400)).unwrap(), new);
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
