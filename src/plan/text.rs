//! The text form of items and steps, one per line, for people.

use std::fmt;

use super::Step;
use crate::model::{
    items::{DUMMY, Forward, Item, TABLE_LOCAL, TABLE_MAIN},
    nftables::RulesetOptions,
};

impl fmt::Display for Step<'_> {
    /// Writes for example `+ route 10.244.1.0/24 via 192.0.2.12`; the sign is `+` for an addition,
    /// `~` for a change and `-` for a removal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self {
            Step::Add(_) => '+',
            Step::Change(_) => '~',
            Step::Remove(_) => '-',
        };
        write!(f, "{sign} {}", self.item())
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Module { name } => write!(f, "module {name}"),
            Item::Link { name, kind, mtu } => {
                write!(f, "link {name} {}", kind.as_str())?;
                mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
            }
            Item::Hairpin { port } => write!(f, "hairpin {port}"),
            Item::Sysctl { name, value } => write!(f, "sysctl {name} = {value}"),
            Item::Table { name, skeleton: None } => {
                write!(f, "table inet {name} (of another version)")
            }
            Item::Table { name, skeleton: Some(skeleton) } => {
                let RulesetOptions { guard, masquerade_all, pod_egress, same_node, accept } =
                    skeleton;
                write!(f, "table inet {name}")?;
                for (on, word) in [
                    (guard, "guard"),
                    (masquerade_all, "masquerade-all"),
                    (pod_egress, "pod-egress"),
                    (same_node, "same-node"),
                    (accept, "accept"),
                ] {
                    if *on {
                        write!(f, " {word}")?;
                    }
                }
                Ok(())
            }
            Item::Element { set, value } => write!(f, "element {} {value}", set.as_str()),
            Item::Accept { chain } => write!(f, "accept in {chain}"),
            Item::Timeout { of, seconds } => write!(f, "timeout {} {seconds} s", of.as_str()),
            Item::Service { at, scheduler, flags, persistence } => {
                write!(f, "service {at} {scheduler}")?;
                if *flags != 0 {
                    write!(f, " flags {flags:#x}")?;
                }
                if *persistence != 0 {
                    write!(f, " persistent {persistence} s")?;
                }
                Ok(())
            }
            Item::Real { of, addr, port, weight, forward } => {
                let real = std::net::SocketAddr::new(*addr, *port);
                write!(f, "real {of} -> {real} weight {weight}")?;
                if *forward == Forward::Masq { Ok(()) } else { write!(f, " {forward:?}") }
            }
            Item::Addr { link, addr } => write!(f, "addr {addr} dev {link}"),
            Item::Route { table, to, via, src } => {
                let is_local = *table == TABLE_LOCAL;
                write!(f, "route {}{to}", if is_local { "local " } else { "" })?;
                via.as_ref().map_or(Ok(()), |via| write!(f, " {via}"))?;
                if is_local {
                    write!(f, " dev {DUMMY}")?;
                }
                src.map_or(Ok(()), |src| write!(f, " src {src}"))?;
                match *table {
                    TABLE_MAIN | TABLE_LOCAL => Ok(()),
                    table => write!(f, " table {table}"),
                }
            }
            Item::File { path, text } => write!(f, "file {path}: {}", text.trim_end()),
        }
    }
}
