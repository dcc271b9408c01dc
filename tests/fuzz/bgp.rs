//! Parses BGP messages. A message that is read must be equal after it is written and read again.
#![no_main]

use kinglet::bgp::{
    as_path::Segment,
    capability::Negotiated,
    message::{Message, message_len},
    update::Update,
};
use libfuzzer_sys::fuzz_target;

/// Returns the content of all messages in the bytes together, because an UPDATE may need several.
fn read_all(mut bytes: &[u8], negotiated: Negotiated) -> Vec<Message> {
    let (mut all, mut whole) = (Vec::new(), None::<Update>);
    while let Some(length) = message_len(bytes).expect("a header that was written") {
        match Message::read(&bytes[..length], negotiated).expect("a message that was written") {
            Message::Update(update) => {
                assert!(update.faults.is_empty(), "{:?}", update.faults);
                let whole = whole.get_or_insert_default();
                if !update.reach.is_empty() {
                    whole.attributes = update.attributes;
                }
                whole.withdrawn.extend(update.withdrawn);
                for reach in update.reach {
                    match whole.reach.iter_mut().find(|known| known.next_hop == reach.next_hop) {
                        Some(known) => known.nets.extend(reach.nets),
                        None => whole.reach.push(reach),
                    }
                }
                whole.end_of_rib = whole.end_of_rib.or(update.end_of_rib);
            }
            other => all.push(other),
        }
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
    all.extend(whole.map(Message::Update));
    all
}

/// Sorts the fields that have no order on the wire, and removes the error texts.
fn sorted(message: &mut Message) {
    if let Message::Update(update) = message {
        update.faults.clear();
        update.withdrawn.sort();
        update.reach.iter_mut().for_each(|reach| reach.nets.sort());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let negotiated = Negotiated { four_octet: first & 1 != 0, internal: first & 2 != 0 };
    if let Err(notification) | Ok(Message::Notification(notification)) =
        &Message::read(bytes, negotiated)
    {
        assert!(!notification.to_string().chars().any(char::is_control));
    }
    let Ok(mut message) = Message::read(bytes, negotiated) else { return };
    let mut out = Vec::new();
    message.write(negotiated, &mut out);
    let mut again = read_all(&out, negotiated);
    sorted(&mut message);
    again.iter_mut().for_each(sorted);
    match &message {
        Message::Unknown => assert!(out.is_empty()),
        Message::Update(update) if *update == Update::default() => assert!(out.is_empty()),
        // AS4_PATH has no confederation segments, so those between other segments are lost.
        Message::Update(update)
            if !negotiated.four_octet
                && update
                    .attributes
                    .as_path
                    .iter()
                    .any(Segment::is_confederation) => {}
        // Attributes that leave no room for a route once they are written by kinglet.
        Message::Update(update) if out.len() > bytes.len() + 16 && update.reach.len() > 1 => {}
        _ => assert_eq!(again, [message]),
    }
});
