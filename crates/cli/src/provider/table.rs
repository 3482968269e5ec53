//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

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
pub(super) fn facts<const N: usize>(facts: [(&str, String); N]) -> Table {
    let mut table = empty();
    for (name, value) in facts {
        table.add_row([name, &value]);
    }
    table
}

/// Things with the same facts.
pub(super) fn rows<const N: usize>(
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Table {
    let mut table = empty();
    table.set_header(heads);
    for row in rows {
        table.add_row(row);
    }
    table
}
