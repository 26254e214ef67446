//! Which rules could speak about an action, found without asking the others.
//!
//! A rule is filed under one of its fields: by the whole value, by a part of it that ends at a
//! separator, by a text somewhere in it, or by a regular expression; what fits none of these is
//! asked always. What comes out may hold rules that do not fit, and never lacks one that does.

use aho_corasick::AhoCorasick;
use hashbrown::HashMap;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, PatternSet};
use serde_json::Value;

use crate::Action;
use crate::action::Host;
use crate::key::{Key, Slot, best, is_proof};
use crate::pattern::base;
use crate::rule::{Kinds, Rule};
use crate::toolkit::{Found, find};

/// Rules about the same kinds of action.
#[derive(Debug)]
struct Group {
    kinds: Kinds,
    files: Vec<File>,
    always: Vec<u32>,
}

/// Rules filed by one slot.
#[derive(Debug)]
struct File {
    slot: Slot,
    exact: Affixes,
    prefixes: Affixes,
    suffixes: Affixes,
    literals: Option<(AhoCorasick, Vec<Vec<u32>>)>,
    regexes: Vec<(Regex, Vec<u32>)>,
    /// Every rule of the file, for values that are no text.
    all: Vec<u32>,
}

/// Parts of values, and which lengths they have: most cuts of a value need no hash.
#[derive(Debug, Default)]
struct Affixes {
    map: HashMap<Box<str>, Vec<u32>>,
    lengths: u128,
}

impl Affixes {
    fn add(&mut self, part: Box<str>, rule: u32) {
        self.lengths |= 1 << part.len().min(LENGTH_MAX);
        push(self.map.entry(part).or_default(), rule);
    }

    fn get(&self, part: &str, found: &mut Vec<u32>) {
        if self.lengths >> part.len().min(LENGTH_MAX) & 1 == 1
            && let Some(rules) = self.map.get(part)
        {
            found.extend_from_slice(rules);
        }
    }

    /// The lengths that parts of a text of this length may have; true when longer ones than
    /// [`LENGTH_MAX`] may be among them.
    fn lengths(&self, of: usize) -> (impl Iterator<Item = usize>, bool) {
        let within = u128::MAX >> 127_usize.saturating_sub(of.min(LENGTH_MAX));
        let mut left = self.lengths & within & !(1 << LENGTH_MAX);
        let each = std::iter::from_fn(move || {
            let length = usize::try_from(left.trailing_zeros()).ok()?;
            left &= left.checked_sub(1)?;
            Some(length)
        });
        (each, self.lengths >> LENGTH_MAX == 1 && of >= LENGTH_MAX)
    }

    /// Parts at the beginning that end with the separator.
    fn begin(&self, text: &str, separator: u8, found: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let ends = |length: usize| bytes.get(length.wrapping_sub(1)) == Some(&separator);
        let (lengths, longer) = self.lengths(text.len());
        for length in lengths.filter(|length| ends(*length)) {
            self.get(text.get(..length).unwrap_or_default(), found);
        }
        if longer {
            for length in (LENGTH_MAX..=text.len()).filter(|length| ends(*length)) {
                self.get(text.get(..length).unwrap_or_default(), found);
            }
        }
    }

    /// Parts at the end that begin with the separator.
    fn end(&self, text: &str, separator: u8, found: &mut Vec<u32>) {
        let starts = |length: usize| {
            let at = text.len().checked_sub(length)?;
            let begins = text.as_bytes().get(at) == Some(&separator);
            begins.then(|| text.get(at..)).flatten()
        };
        let (lengths, longer) = self.lengths(text.len());
        for part in lengths.filter_map(starts) {
            self.get(part, found);
        }
        if longer {
            for part in (LENGTH_MAX..=text.len()).filter_map(starts) {
                self.get(part, found);
            }
        }
    }
}

/// Parts of this length and longer ones share a bit.
const LENGTH_MAX: usize = 127;

fn push(rules: &mut Vec<u32>, rule: u32) {
    if rules.last() != Some(&rule) {
        rules.push(rule);
    }
}

/// The index of one document.
#[derive(Debug)]
pub(crate) struct Index {
    groups: Vec<Group>,
    /// The most regular expressions of a file.
    pub(crate) patterns: usize,
}

impl Index {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut kinds: Vec<u16> = rules.iter().map(|rule| rule.kinds.0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let groups: Vec<Group> = kinds
            .into_iter()
            .map(|kinds| {
                group(
                    Kinds(kinds),
                    rules.iter().zip(0..).filter(|(r, _)| r.kinds.0 == kinds),
                )
            })
            .collect();
        let files = groups.iter().flat_map(|group| &group.files);
        let patterns = files
            .flat_map(|file| &file.regexes)
            .map(|(_, rules)| rules.len());
        let patterns = patterns.max().unwrap_or(0);
        Self { groups, patterns }
    }

    /// Every rule that could fit, once and in their order: twice its number, and one more where it
    /// has still to be asked.
    pub(crate) fn find(&self, action: &Action, found: &mut Vec<u32>, patterns: &mut PatternSet) {
        found.clear();
        for group in self
            .groups
            .iter()
            .filter(|group| group.kinds.contains(action.kind))
        {
            found.extend_from_slice(&group.always);
            for file in &group.files {
                file.find(action, found, patterns);
            }
        }
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup_by_key(|number| *number >> 1);
        }
    }
}

fn group<'r>(kinds: Kinds, rules: impl Iterator<Item = (&'r Rule, u32)>) -> Group {
    let mut filed: std::collections::BTreeMap<Slot, Vec<(Key, u32)>> = Default::default();
    let mut always = Vec::new();
    for (rule, number) in rules {
        match best(rule) {
            Some((slot, keys)) => {
                let number = number << 1 | u32::from(!is_proof(rule));
                let file = filed.entry(slot).or_default();
                file.extend(keys.into_iter().map(|key| (key, number)));
            }
            None => always.push(number << 1 | 1),
        }
    }
    let files = filed
        .into_iter()
        .map(|(slot, keys)| File::new(slot, keys, &mut always))
        .collect();
    Group {
        kinds,
        files,
        always,
    }
}

/// Fewer regular expressions are asked one by one.
const REGEXES_MIN: usize = 9;

impl File {
    fn new(slot: Slot, keys: Vec<(Key, u32)>, always: &mut Vec<u32>) -> Self {
        let mut file = Self {
            slot,
            exact: Affixes::default(),
            prefixes: Affixes::default(),
            suffixes: Affixes::default(),
            literals: None,
            regexes: Vec::new(),
            all: keys.iter().map(|(_, rule)| *rule).collect(),
        };
        let mut literals: std::collections::BTreeMap<Box<str>, Vec<u32>> = Default::default();
        let mut regexes: Vec<(Box<str>, u32)> = Vec::new();
        for (key, rule) in keys {
            match key {
                Key::Exact(text) => file.exact.add(text, rule),
                Key::Prefix(text) => file.prefixes.add(text, rule),
                Key::Suffix(text) => file.suffixes.add(text, rule),
                Key::Literal(text) => push(literals.entry(text).or_default(), rule),
                Key::Regex(pattern) => regexes.push((pattern, rule)),
            }
        }
        if !literals.is_empty() {
            // What cannot be built is asked always.
            match AhoCorasick::new(literals.keys().map(|text| text.as_bytes())) {
                Ok(automaton) => {
                    file.literals = Some((automaton, literals.into_values().collect()))
                }
                Err(_) => always.extend(literals.into_values().flatten()),
            }
        }
        join(&regexes, &mut file.regexes, always);
        file
    }

    fn find(&self, action: &Action, found: &mut Vec<u32>, patterns: &mut PatternSet) {
        let text = |text: &'_ Option<Box<str>>, found: &mut Vec<u32>, patterns: &mut PatternSet| {
            if let Some(text) = text {
                self.look_up(text, found, patterns);
            }
        };
        match &self.slot {
            Slot::Path => text(&action.path, found, patterns),
            Slot::Tool => text(&action.tool, found, patterns),
            Slot::Program => text(&action.program, found, patterns),
            Slot::Session => text(&action.session, found, patterns),
            Slot::Agent => text(&action.agent, found, patterns),
            Slot::Ring => text(&action.ring, found, patterns),
            Slot::Base => {
                if let Some(program) = &action.program {
                    self.look_up(base(program), found, patterns);
                }
            }
            // Rules about addresses are not filed.
            Slot::Host => {
                if let Some(Host::Name(name)) = &action.host {
                    self.look_up(name.as_str(), found, patterns);
                }
            }
            Slot::Toolkit(field, denies) => match find(action, field, *denies) {
                Some(Found::Own(text)) => self.look_up(&text, found, patterns),
                Some(Found::Given(Value::String(text))) => self.look_up(text, found, patterns),
                Some(Found::Given(_)) => found.extend_from_slice(&self.all),
                None => {}
            },
        }
    }

    fn look_up(&self, text: &str, found: &mut Vec<u32>, patterns: &mut PatternSet) {
        self.exact.get(text, found);
        if self.prefixes.lengths != 0 {
            let path = matches!(self.slot, Slot::Path | Slot::Program);
            self.prefixes
                .begin(text, if path { b'/' } else { b'.' }, found);
        }
        if self.suffixes.lengths != 0 {
            self.suffixes.end(text, b'.', found);
        }
        if let Some((automaton, rules)) = &self.literals {
            for hit in automaton.find_overlapping_iter(text.as_bytes()) {
                found.extend(rules.get(hit.pattern().as_usize()).into_iter().flatten());
            }
        }
        for (regex, rules) in &self.regexes {
            if patterns.capacity() < rules.len() {
                // Another engine's memory.
                found.extend_from_slice(rules);
                continue;
            }
            patterns.clear();
            regex.which_overlapping_matches(&Input::new(text), patterns);
            found.extend(
                patterns
                    .iter()
                    .filter_map(|pattern| rules.get(pattern.as_usize())),
            );
        }
    }
}

/// One automaton for as many patterns as it stays small with, several when they are more.
fn join(regexes: &[(Box<str>, u32)], joined: &mut Vec<(Regex, Vec<u32>)>, always: &mut Vec<u32>) {
    let rules = regexes.iter().map(|(_, rule)| *rule);
    if regexes.len() < REGEXES_MIN {
        return always.extend(rules);
    }
    let patterns: Vec<&str> = regexes.iter().map(|(pattern, _)| &**pattern).collect();
    if let Some(regex) = many(&patterns) {
        return joined.push((regex, rules.collect()));
    }
    let (first, second) = regexes.split_at(regexes.len() / 2);
    join(first, joined, always);
    join(second, joined, always);
}

/// `None` when it would be larger than what it is searched with can hold: the search would fall back
/// to one that walks every state for every byte.
fn many(patterns: &[&str]) -> Option<Regex> {
    let config = Regex::config()
        .match_kind(MatchKind::All)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(1 << 20))
        .hybrid_cache_capacity(1 << 21);
    let built = Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().nest_limit(64))
        .build_many(patterns);
    built.ok()
}
