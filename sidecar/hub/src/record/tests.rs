use proptest::prelude::*;

use super::*;
use item::{Item, Items, extensions, put_extensions, put_sequences, sequences};

const HEAD: Header = Header { epoch: 7, kind: Kind::Data, sequence: 42, time: Timestamp::from_micros(1_000) };

fn record(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, &HEAD, body, 64);
    bytes
}

#[test]
fn a_record_reads_back() {
    let bytes = record(b"hello");
    let (header, body, length) = parse(&bytes, 7, 64).unwrap();
    assert_eq!((header, length), (HEAD, 40));
    assert_eq!(body, b"hello\0\0\0");
}

#[test]
fn every_bit_of_a_record_is_under_the_checksum() {
    let bytes = record(b"hello");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&flipped, 7, 64).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length], 7, 64).is_err(), "length {length}");
    }
}

#[test]
fn a_record_of_another_epoch_or_place_does_not_parse() {
    let bytes = record(b"hello");
    assert_eq!(parse(&bytes, 8, 64), Err(Bad::Epoch));
    assert_eq!(parse(&bytes, 7, 72), Err(Bad::Checksum));
    assert_eq!(parse(&[0; 64], 7, 64), Err(Bad::Empty));
}

#[test]
fn items_read_back() {
    let mut attributes = Vec::new();
    put_extensions(&mut attributes, &[("a", "1"), ("b", "")]);
    let items = [
        Item::Message { topic: 1, key: 2, id: u128::MAX - 5, extensions: &attributes, event: b"event" },
        Item::Settled { subscription: 3, sequence: 4 },
        Item::Tried { subscription: 3, sequence: 4, attempts: 5 },
        Item::Topic { topic: 1, config: b"{}" },
        Item::TopicRemoved { topic: 1 },
        Item::Subscription { subscription: 3, topic: 1, name: "llm" },
        Item::SubscriptionRemoved { subscription: 3 },
        Item::Floor { subscription: 3, floor: 9, settled: b"" },
        Item::Numbers { topic: 4, subscription: 5 },
    ];
    let mut body = Vec::new();
    for item in &items {
        item.put(&mut body);
    }
    let bytes = record(&body);
    let (_, body, _) = parse(&bytes, 7, 64).unwrap();
    assert_eq!(Items::of(body).map(Option::unwrap).collect::<Vec<_>>(), items);
    assert_eq!(extensions(&attributes), [("a".into(), "1".into()), ("b".into(), String::new())]);
}

#[test]
fn an_unknown_item_is_said_and_ends_the_body() {
    assert_eq!(Items::of(&[99, 1, 2]).collect::<Vec<_>>(), [None]);
}

proptest! {
    #[test]
    fn sequences_read_back(floor in 0_u64..1_000, set in proptest::collection::btree_set(0_u64..500, 0..100)) {
        let above: Vec<_> = set.into_iter().map(|gap| floor + 1 + gap).collect();
        let mut bytes = Vec::new();
        put_sequences(&mut bytes, floor, above.iter().copied());
        prop_assert_eq!(sequences(floor, &bytes), above);
    }

    #[test]
    fn nothing_read_from_arbitrary_bytes_goes_wrong(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((_, body, length)) = parse(&bytes, 7, 64) {
            prop_assert!(HEADER + body.len() == length && length <= bytes.len());
        }
        let _ = Items::of(&bytes).count();
        let _ = extensions(&bytes);
    }
}
