//! Tables for people, and what stands in them.

use comfy_table::{ContentArrangement, Table, presets};
use roadstead_types::{JobId, Seconds};

/// Some terminals say that they have no columns; below this, wrapping helps nobody.
const MIN_WIDTH: u16 = 60;

fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// One fact a row.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> Table {
    let mut table = empty();
    for (name, value) in facts {
        table.add_row([name, &value]);
    }
    table
}

/// Things with the same facts.
pub(crate) fn rows<const N: usize>(
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = empty();
    table.set_header(heads);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// The beginning of a job's id: enough for people to tell jobs apart.
pub(crate) fn short(job: JobId) -> String {
    job.to_string().chars().take(10).collect()
}

/// A span, in its two largest units.
pub(crate) fn span(Seconds(seconds): Seconds) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    const NAMES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = NAMES.len() - 1;
    let unit = (0..unit).find(|unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(unit);
    if unit == 0 {
        return format!("{bytes} B");
    }
    // The rest below the unit is less than 2^40, so ten times as much is a number as well.
    let (whole, rest) = (bytes >> (10 * unit), bytes & ((1 << (10 * unit)) - 1));
    format!("{whole}.{} {}", (rest * 10) >> (10 * unit), NAMES[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(Seconds(seconds)), expected);
        }
    }

    #[test]
    fn sizes_have_the_largest_unit_that_is_not_too_large() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (3 << 19, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
