//! Every fast loop against the portable one, and that one against bits in a string.
use super::*;
use proptest::prelude::*;

/// Registers of a width, in a power of two.
fn registers() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (1u8..=7, 0u32..=9).prop_flat_map(|(width, log2m)| {
        let values = prop_oneof![Just(0), Just((1u8 << width) - 1), 0..1u8 << width];
        (Just(width), proptest::collection::vec(values, 1 << log2m))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fast_loops_equal_the_portable((width, registers) in registers(), seed: u8) {
        let mut bits: String = registers.iter().map(|value| format!("{value:0w$b}", w = width as usize)).collect();
        bits += &"0".repeat(bits.len().next_multiple_of(8) - bits.len());
        let expected: Vec<u8> =
            (0..bits.len()).step_by(8).map(|at| u8::from_str_radix(&bits[at..at + 8], 2).unwrap()).collect();
        let (mut fast, mut plain) = (vec![seed], vec![seed]);
        pack(width, &registers, &mut fast);
        portable::pack(width, &registers, &mut plain);
        prop_assert_eq!(&fast[1..], &expected[..]);
        prop_assert_eq!(&plain[1..], &expected[..]);

        let start: Vec<u8> = (0..registers.len()).map(|at| at as u8 ^ seed).map(|v| v & ((1 << width) - 1)).collect();
        let (mut fast, mut plain) = (start.clone(), start.clone());
        unpack(width, &expected, &mut fast);
        portable::unpack(width, &expected, &mut plain, |group, values| *group = values);
        prop_assert_eq!(&fast, &registers);
        prop_assert_eq!(&plain, &registers);

        let (mut fast, mut plain) = (start.clone(), start.clone());
        raise(&mut fast, &registers);
        portable::raise(&mut plain, &registers);
        prop_assert_eq!(fast, plain);

        let mut fast = start.clone();
        raise_packed(width, &expected, &mut fast);
        let raised: Vec<u8> = start.iter().zip(&registers).map(|(a, b)| *a.max(b)).collect();
        prop_assert_eq!(fast, raised);

        let expected: Vec<(usize, u8)> =
            registers.iter().copied().enumerate().filter(|(_, value)| *value != 0).collect();
        let mut found = Vec::new();
        each_filled(&registers, |index, value| found.push((index, value)));
        prop_assert_eq!(&found, &expected);
        let words = expected.iter().flat_map(|(index, value)| ((*index as u16) << width | u16::from(*value)).to_be_bytes());
        let (mut fast, mut plain) = (vec![seed], vec![seed]);
        put_entries16(width, &registers, expected.len(), &mut fast);
        portable::put_entries16(width, &registers, &mut plain);
        prop_assert_eq!(&fast[1..], words.collect::<Vec<u8>>());
        prop_assert_eq!(&plain, &fast);
        let mut entries: Vec<[u8; 2]> = fast[1..].as_chunks().0.to_vec();
        prop_assert!(ascending16(width, &entries));
        let mut raised = vec![0; 1 << (16 - width)];
        raise_entries16(width, &entries, &mut raised);
        let mut plain = vec![0; 1 << (16 - width)];
        portable::store_entries16(width, &entries, &mut plain);
        prop_assert_eq!(&plain, &raised);
        let same = raised[..registers.len().min(1 << (16 - width))] == registers[..];
        prop_assert!(same);
        if width <= 5 {
            let last = (1 << width) - 1;
            let values: Vec<u8> = entries.iter().map(|entry| entry[1] & last).collect();
            prop_assert_eq!(summarize16(&entries, last), portable::summarize(&values, last));
        }
        if entries.len() > 1 {
            let at = seed as usize % (entries.len() - 1);
            entries[at] = entries[at + 1];
            prop_assert!(!ascending16(width, &entries) && !portable::ascending16(width, &entries));
        }
        prop_assert_eq!(filled(&registers), portable::filled(&registers));
        prop_assert_eq!(filled(&registers), registers.iter().filter(|value| **value != 0).count());
        if width <= 5 {
            let last = (1 << width) - 1;
            prop_assert_eq!(summarize(&registers, last), portable::summarize(&registers, last));
        }
    }
}
