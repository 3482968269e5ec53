//! What somebody may have meant who wrote a word that is none.

/// The longest word that is compared, in bytes.
const MAX_LENGTH: usize = 40;

/// The known word that differs from `word` least: in case, hyphens and underscores only, or by few letters. `None`
/// where none is near.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let folded = fold(word);
    let near = known.iter().map(|candidate| (distance(&folded, &fold(candidate)), *candidate));
    let (distance, candidate) = near.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ, but not the first: `prots` is `ports`, `gpu` is not `cpu`.
    let near = distance * 3 <= candidate.len() && folded.first() == fold(candidate).first();
    near.then_some(candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|one| !matches!(one, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// How many letters have to be put in, left out or replaced, or neighbours swapped (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, one) in left.iter().enumerate() {
        let mut line = vec![row + 1; width];
        for (column, other) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(one != other);
            let mut best = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && *one == right[column - 1] && left[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            line[column + 1] = best;
        }
        before = last;
        last = line;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = &["image", "ports", "working_dir", "args", "env", "cpu"];
        for (word, meant) in [
            ("prots", Some("ports")),
            ("port", Some("ports")),
            ("workingDir", Some("working_dir")),
            ("working-dir", Some("working_dir")),
            ("IMAGE", Some("image")),
            ("envs", Some("env")),
            ("volumes", None),
            ("gpu", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&format!("{}ports", "-".repeat(35)), known), Some("ports"));
        assert_eq!(nearest(&format!("{}ports", "-".repeat(36)), known), None);
        assert_eq!(nearest("ports", &[]), None);
    }

    #[test]
    fn the_distance_counts_single_slips() {
        let of = |left: &str, right: &str| distance(&fold(left), &fold(right));
        assert_eq!(of("", ""), 0);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", "acb"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
