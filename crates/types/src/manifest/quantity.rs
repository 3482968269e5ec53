//! Quantities with units: thousandths of a core, bytes, time. Exact, in whole numbers; `None` is a text that is none.

use crate::decimal::{Decimal, bytes_of_unit};

/// CPU as Kubernetes writes it, `250m`, `0.25` or `1`, in thousandths of a core. `None` also where it is finer than
/// that.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let (number, unit) = Decimal::before_unit(text)?;
    let scale = match unit {
        "" => 1_000,
        "m" => 1,
        _ => return None,
    };
    let (down, up) = (number.scaled_down(scale)?, number.scaled_up(scale)?);
    (down == up).then_some(down)
}

/// An amount of bytes as Kubernetes writes it, `64Mi`, `64M` or `67108864`, rounded up to a whole byte.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = Decimal::before_unit(text)?;
    number.scaled_up(if unit.is_empty() { 1 } else { bytes_of_unit(unit)? })
}

/// A span of time as Compose writes it, in whole minutes and seconds: `10s`, `2m`, `1m30s`. In seconds.
pub(super) fn seconds(text: &str) -> Option<u32> {
    let (minutes, rest) = match text.split_once('m') {
        Some((minutes, rest)) => (whole(minutes)?, rest),
        None => (0, text),
    };
    let seconds = match rest {
        "" if rest.len() < text.len() => 0,
        rest => whole(rest.strip_suffix('s')?)?,
    };
    minutes.checked_mul(60)?.checked_add(seconds)
}

fn whole(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_is_exact_to_a_thousandth() {
        for (text, expected) in [
            ("250m", Some(250)),
            ("0.25", Some(250)),
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("0.250000", Some(250)),
            ("2.5m", None),
            ("0.0005", None),
            ("1k", None),
            (".5", None),
            ("1.", None),
            ("1.2.3", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("", None),
            ("m", None),
            (" 1", None),
            ("99999999999999999999", None),
            ("0.0000000000000000001", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }

    #[test]
    fn bytes_are_rounded_up() {
        for (text, expected) in [
            ("0", Some(0)),
            ("67108864", Some(64 << 20)),
            ("64Mi", Some(64 << 20)),
            ("64M", Some(64_000_000)),
            ("1.5Gi", Some(3 << 29)),
            ("0.1Ki", Some(103)),
            ("3k", Some(3000)),
            ("3K", Some(3000)),
            ("2Ti", Some(2 << 40)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999Ti", None),
            ("64m", None),
            ("64MiB", None),
            ("64mi", None),
            ("64 Mi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn no_text_is_too_long_to_be_refused() {
        for text in [format!("{}Ti", "9".repeat(38)), format!("0.{}", "1".repeat(38))] {
            assert_eq!((thousandths(&text), bytes(&text)), (None, None), "{text}");
        }
    }

    #[test]
    fn time_is_minutes_and_seconds() {
        for (text, expected) in [
            ("10s", Some(10)),
            ("2m", Some(120)),
            ("1m30s", Some(90)),
            ("0s", Some(0)),
            ("90s", Some(90)),
            ("", None),
            ("s", None),
            ("m", None),
            ("10", None),
            ("1.5s", None),
            ("10ms", None),
            ("30s1m", None),
            ("1h", None),
            ("-1s", None),
            ("+1s", None),
            ("99999999999m", None),
            ("4294967295m", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_thousandths_survive_both_forms(value in 0..=u64::from(u32::MAX)) {
            prop_assert_eq!(thousandths(&format!("{value}m")), Some(value));
            let decimal = format!("{}.{:03}", value / 1000, value % 1000);
            prop_assert_eq!(thousandths(&decimal), Some(value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.kKMGTim+-]{0,24}|\\PC{0,24}") {
            let _ = (thousandths(&text), bytes(&text), seconds(&text));
        }
    }
}
