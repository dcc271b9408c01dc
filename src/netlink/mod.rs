//! Netlink: [`socket`] sends requests and receives replies, [`message`] builds and parses messages. Nothing
//! here knows items; `kernel` translates between them and messages.

pub mod message;
pub mod socket;
