//! Words of files in messages.

/// A key or value from a file, short enough for a message and without anything that drives a
/// terminal.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

/// The word that was probably meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let measured = names.iter().map(|name| (distance(wrong, name), *name));
    let (distance, name) = measured.min()?;
    (distance <= 1 + name.len() / 4).then_some(name)
}

/// Edit distance with transpositions (optimal string alignment), on at most 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let cell = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i)
            .and_then(|row| row.get(j))
            .copied()
            .unwrap_or(usize::MAX / 2)
    };
    for (i, x) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, y) in b.iter().enumerate() {
            let mut best = (cell(&rows, i, j + 1) + 1)
                .min(cell(&rows, i + 1, j) + 1)
                .min(cell(&rows, i, j) + usize::from(x != y));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(cell(&rows, i - 1, j - 1) + 1);
            }
            if let Some(row) = rows.last_mut() {
                row.push(best);
            }
        }
    }
    cell(&rows, a.len(), b.len())
}
