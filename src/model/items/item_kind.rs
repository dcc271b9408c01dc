//! The table of all kinds of item ([`ItemKind`]), with everything in which the kinds differ
//! ([`KindInfo`]).
//!
//! A new kind is a variant of [`Item`] and one row here; the program does not compile with one and
//! without the other. `kernel` derives from the row the scope and the interface of an item, `plan`
//! the removals, `desired` the objects that an item depends on, and `report` the names.

use super::{Item, ServiceKey, TABLE_MAIN};
use crate::model::{cluster::Kind, nftables::Set};

/// The part of the observed state to which a kind belongs. An observation may leave parts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedPart {
    /// Links, addresses, routes and sysctls.
    Network,
    /// Our nftables table, and our rules in the chains of other programs.
    Nftables,
    /// Real servers, the only part whose size depends on the number of endpoints.
    RealServers,
    /// Everything else: modules, files and the services of IPVS.
    Other,
}

/// The interface of the kernel by which an item is added, changed and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Loads a module.
    Module,
    /// Links, one at a time, because later steps need their indices.
    Link,
    /// Files, also those below /proc/sys.
    File,
    /// The nftables table as a whole.
    Table,
    /// Elements of the sets in the table.
    Elements,
    /// Rules in the chains of other programs.
    Accept,
    /// IPVS (generic netlink).
    Ipvs,
    /// Addresses, routes and bridge ports (rtnetlink).
    Route,
}

/// The occasions on which an item that nobody wants is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Never.
    Never,
    /// At a cleanup only.
    Cleanup,
    /// By every pass. A cleanup takes no step for it, because the item disappears together with
    /// another one: an element with its table, a real server with its service.
    Pass,
    /// By every pass, and at a cleanup.
    Always,
}

/// The properties of a kind of item.
#[derive(Debug)]
pub struct KindInfo {
    /// The name in JSON and in metrics.
    pub name: &'static str,
    /// The part of the observed state that contains it.
    pub part: ObservedPart,
    /// The interface that applies its steps.
    pub backend: Backend,
    /// The occasions on which its items are removed; [`Item::removal`] has the exceptions.
    pub removal: Removal,
    /// The kinds of API object that can ask for its items; [`Item::sources`] is more exact.
    pub sources: &'static [Kind],
}

/// Defines [`ItemKind`], its table and [`Item::kind`] from one row for each kind.
macro_rules! kinds {
    ($($kind:ident: $name:literal, $part:ident, $backend:ident, $removal:ident, $sources:ident;)*) => {
        /// A kind of item: a variant of [`Item`], without its fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)] // the variants of `Item`
        pub enum ItemKind {
            $($kind,)*
        }

        /// The properties of each kind, indexed by `ItemKind as usize`.
        static KINDS: &[KindInfo] = &[$(KindInfo {
            name: $name,
            part: ObservedPart::$part,
            backend: Backend::$backend,
            removal: Removal::$removal,
            sources: $sources,
        },)*];

        impl ItemKind {
            /// All kinds, in the order of creation.
            pub const ALL: &'static [ItemKind] = &[$(ItemKind::$kind,)*];
        }

        impl Item {
            /// Returns its kind.
            pub fn kind(&self) -> ItemKind {
                match self {
                    $(Item::$kind { .. } => ItemKind::$kind,)*
                }
            }
        }
    };
}

const NOTHING: &[Kind] = &[];
const NODES: &[Kind] = &[Kind::Node];
const SERVICES: &[Kind] = &[Kind::Service];
const ENDPOINTS: &[Kind] = &[Kind::Service, Kind::EndpointSlice];
const ALL: &[Kind] = &[Kind::Node, Kind::Service, Kind::EndpointSlice];

kinds! {
    // kind    name       part         backend   removal  sources
    Module:   "module",   Other,       Module,   Never,   ENDPOINTS;
    Link:     "link",     Network,     Link,     Cleanup, ENDPOINTS;
    Hairpin:  "hairpin",  Network,     Route,    Never,   ENDPOINTS;
    Sysctl:   "sysctl",   Network,     File,     Never,   ENDPOINTS;
    Table:    "table",    Nftables,    Table,    Cleanup, ENDPOINTS;
    Element:  "element",  Nftables,    Elements, Pass,    ALL;
    Accept:   "accept",   Nftables,    Accept,   Always,  NOTHING;
    Timeout:  "timeout",  Other,       Ipvs,     Never,   ENDPOINTS;
    Service:  "service",  Other,       Ipvs,     Always,  ENDPOINTS;
    Real:     "real",     RealServers, Ipvs,     Pass,    ENDPOINTS;
    Addr:     "addr",     Network,     Route,    Always,  SERVICES;
    Route:    "route",    Network,     Route,    Always,  ALL;
    File:     "file",     Other,       File,     Never,   ENDPOINTS;
}

impl ItemKind {
    /// Returns the properties of the kind.
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    /// Returns the kind with this name; `None` if there is none.
    pub fn named(name: &str) -> Option<ItemKind> {
        ItemKind::ALL.iter().copied().find(|kind| kind.info().name == name)
    }
}

impl Item {
    /// Returns the properties of its kind.
    pub fn info(&self) -> &'static KindInfo {
        self.kind().info()
    }

    /// Returns the occasions on which the item is removed if nobody wants it.
    pub fn removal(&self) -> Removal {
        if let Item::Link { kind, .. } = self
            && kind.is_tunnel()
        {
            return Removal::Always;
        }
        self.info().removal
    }

    /// Returns the kinds of API object that can ask for this item. While an object of such a kind
    /// can't be read, the item must not be removed.
    pub fn sources(&self) -> &'static [Kind] {
        if let Item::Element { set, .. } = self {
            return match set {
                Set::OwnPods | Set::PodNets | Set::NodeIps => NODES,
                Set::Services | Set::Vips => SERVICES,
                Set::Reject
                | Set::Drop
                | Set::DropOutside
                | Set::Outside
                | Set::Restricted
                | Set::Ranges
                | Set::Loops
                | Set::TcpPorts
                | Set::UdpPorts
                | Set::SctpPorts => ENDPOINTS,
            };
        }
        if let Item::Route { table, .. } = self {
            return if *table == TABLE_MAIN { NODES } else { SERVICES };
        }
        if let Item::Link { kind, .. } = self
            && kind.is_tunnel()
        {
            return NODES;
        }
        // A service by mark exists because of where its endpoints are.
        if let Item::Service { at: ServiceKey::Address(_), .. } = self {
            return SERVICES;
        }
        self.info().sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::items::{DUMMY, SetElement};

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        for kind in ItemKind::ALL {
            assert_eq!(ItemKind::named(kind.info().name), Some(*kind));
        }
        assert_eq!(ItemKind::named("gizmo"), None);
    }

    #[test]
    fn an_item_depends_on_the_objects_that_can_ask_for_it_and_on_no_others() {
        let item = |text: &str| serde_json::from_str::<Item>(text).unwrap();
        for (text, sources) in [
            (r#"{"kind":"accept","chain":"ip filter INPUT"}"#, NOTHING),
            (r#"{"kind":"addr","link":"kube-dummy-if","addr":"10.96.0.10/32"}"#, SERVICES),
            (r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":"192.0.2.12"}"#, NODES),
            (r#"{"kind":"route","table":255,"to":"10.96.0.10/32"}"#, SERVICES),
            (
                r#"{"kind":"service","at":{"addr":"10.96.0.10","protocol":"tcp","port":80},"scheduler":"rr","flags":0,"persistence":0}"#,
                SERVICES,
            ),
            (
                r#"{"kind":"service","at":{"mark":1259995137,"ipv4":true},"scheduler":"rr","flags":0,"persistence":0}"#,
                ENDPOINTS,
            ),
            (
                r#"{"kind":"real","of":{"mark":9,"ipv4":false},"addr":"fd44::1","port":80,"weight":1,"forward":"masq"}"#,
                ENDPOINTS,
            ),
            (r#"{"kind":"link","name":"t","type":{"ipip":{"local":"192.0.2.11"}}}"#, NODES),
            (r#"{"kind":"link","name":"kube-dummy-if","type":"dummy"}"#, ENDPOINTS),
        ] {
            assert_eq!(item(text).sources(), sources, "{text}");
        }
        let element = |set| {
            let value = SetElement::Addr([10, 96, 0, 10].into());
            Item::Element { set, value }.sources()
        };
        for (sets, sources) in [
            (&[Set::OwnPods, Set::PodNets, Set::NodeIps][..], NODES),
            (&[Set::Services, Set::Vips], SERVICES),
            (&[Set::Reject, Set::Drop, Set::Outside, Set::Loops, Set::TcpPorts], ENDPOINTS),
        ] {
            assert!(sets.iter().all(|set| element(*set) == sources), "{sets:?}");
        }
    }

    #[test]
    fn an_item_has_all_sources_that_its_kind_allows_or_fewer() {
        let addr = Item::Addr { link: DUMMY.into(), addr: "10.96.0.10/32".parse().unwrap() };
        for set in Set::ALL {
            let value = SetElement::Addr([10, 96, 0, 10].into());
            let element = Item::Element { set, value };
            let allowed = element.info().sources;
            assert!(element.sources().iter().all(|kind| allowed.contains(kind)), "{set:?}");
        }
        assert_eq!(addr.sources(), addr.info().sources);
    }
}
