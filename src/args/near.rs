//! What was perhaps meant by a word that is not known.

/// ` (did you mean X?)`, where something is near.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let near = names.map(|name| (distance(word, name), name)).min();
    match near {
        Some((d @ 0..=2, name)) if 2 * d <= word.len() => format!(" (did you mean {name}?)"),
        _ => String::new(),
    }
}

/// How many letters have to be changed, put in or left out (Levenshtein).
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
