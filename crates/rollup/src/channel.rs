//! The channel of PostgreSQL's NOTIFY on which a rollup tells that it has changed.

/// A name of PostgreSQL's has so many bytes at most.
const NAME: usize = 63;

/// `rollup_` and the rollup's name. Where that is too long for a channel, the name as far as it fits and, behind an
/// underscore, sixteen digits that stand for all of it.
pub fn channel(name: &str) -> String {
    let whole = format!("rollup_{name}");
    if whole.len() <= NAME {
        return whole;
    }
    let suffix = format!("_{:016x}", hash(name));
    let mut end = NAME - suffix.len();
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &whole[..end])
}

/// Fowler, Noll and Vo's hash of 64 bits, version 1a: the same everywhere, and for ever.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::channel;

    #[test]
    fn a_channel_is_a_name() {
        assert_eq!(channel("page_1min"), "rollup_page_1min");
        assert_eq!(channel("other schema.Page \"1\""), "rollup_other schema.Page \"1\"");
        let longest = "x".repeat(56);
        assert_eq!(channel(&longest), format!("rollup_{longest}"));
        for n in 1..200 {
            for letter in ["x", "é", "日", "😀"] {
                let name = letter.repeat(n);
                let of = channel(&name);
                assert!(of.len() <= 63 && of.starts_with("rollup_"), "{of}");
                // Names that are alike for as long as they fit are told apart.
                assert_ne!(of, channel(&format!("{name}a")));
                assert_ne!(channel(&format!("{name}a")), channel(&format!("{name}b")));
            }
        }
        // Known for ever: listeners have it in their programs.
        assert_eq!(
            channel(&"x".repeat(57)),
            "rollup_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_e6e139640471d067"
        );
    }
}
