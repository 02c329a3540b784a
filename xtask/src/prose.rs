//! `cargo xtask prose`

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Print the sentence lengths of the documents
///
/// For each Markdown file: the number of sentences, their mean length in words, and the longest one. Code, tables and headings do not
/// count.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files to read
    #[arg(default_values = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/tour.md", "docs/limits.md"])]
    files: Vec<String>,
    /// Fail if the mean of a file is above WORDS
    #[arg(long, value_name = "WORDS")]
    most: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut wordy = Vec::new();
    println!("sentences  mean  longest  file");
    for file in &args.files {
        let text = fs::read_to_string(workspace::root().join(file)).with_context(|| format!("cannot read {file}"))?;
        let lengths: Vec<usize> = sentences(&text).iter().map(|sentence| words(sentence)).collect();
        let mean = mean(&lengths);
        println!("{:9}  {mean:4.1}  {:7}  {file}", lengths.len(), lengths.iter().max().unwrap_or(&0));
        if args.most.is_some_and(|most| mean > most) {
            wordy.push(format!("{file} ({mean:.1} words a sentence)"));
        }
    }
    if !wordy.is_empty() {
        bail!("write shorter sentences: {}", wordy.join(", "));
    }
    Ok(())
}

/// Returns the mean number of words in a sentence of `text`.
pub(crate) fn mean_of(text: &str) -> f64 {
    mean(&sentences(text).iter().map(|sentence| words(sentence)).collect::<Vec<_>>())
}

fn mean(lengths: &[usize]) -> f64 {
    lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64
}

/// Returns the sentences of a Markdown text: of its paragraphs and list items.
fn sentences(markdown: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut paragraph = String::new();
    let mut fenced = false;
    for line in markdown.lines().chain([""]) {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let text = line.trim_start();
        let item = text.strip_prefix("- ").or_else(|| {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
            (rest.len() < text.len()).then(|| rest.strip_prefix(". ")).flatten()
        });
        let code = fenced || line.starts_with("    ") || line.starts_with("```");
        let skipped = code || text.starts_with('|') || text.starts_with('#');
        if text.is_empty() || item.is_some() || skipped {
            split(&paragraph, &mut sentences);
            paragraph.clear();
        }
        if !skipped {
            paragraph.push_str(item.unwrap_or(text));
            paragraph.push(' ');
        }
    }
    sentences
}

/// Splits a paragraph into sentences: at `.`, `!`, `?`, `:` or `;` before white space.
fn split(paragraph: &str, into: &mut Vec<String>) {
    let mut sentence = String::new();
    for word in paragraph.split_whitespace() {
        sentence.push_str(word);
        sentence.push(' ');
        if word.trim_end_matches(['*', ')', '"', '_']).ends_with(['.', '!', '?', ':', ';']) {
            into.push(std::mem::take(&mut sentence));
        }
    }
    if words(&sentence) > 0 {
        into.push(sentence);
    }
}

fn words(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count()
}

#[cfg(test)]
mod tests {
    use super::{sentences, words};

    #[test]
    fn code_tables_and_headings_do_not_count() {
        let text = "# A heading of five words\n\nOne two. Three `four` five!\n\n    code code code\n\n| a | b |\n\n- an item\n- 2nd item: more\n";
        let lengths: Vec<usize> = sentences(text).iter().map(|sentence| words(sentence)).collect();
        assert_eq!(lengths, [2, 3, 2, 2, 1]);
    }
}
