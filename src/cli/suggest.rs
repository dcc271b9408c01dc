//! Suggestions for an unknown command or flag: "did you mean …?".

/// Returns ` (did you mean X?)` for the name with the smallest edit distance to `word`. Empty if no name is
/// within two edits, or if the edits would change more than half of the word.
pub(crate) fn suggestion<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let near = names.map(|name| (distance(word, name), name)).min();
    match near {
        Some((d @ 0..=2, name)) if 2 * d <= word.len() => format!(" (did you mean {name}?)"),
        _ => String::new(),
    }
}

/// Returns the Levenshtein distance: the number of letters to change, insert or delete.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let swap = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = swap.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
