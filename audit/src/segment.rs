//! The files that the records are in: each is named after its first record.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use rustix::fs::OFlags;

use crate::error::Error;
use crate::folder::Folder;
use crate::line::LINE_BYTES_MAX;

const BUFFER: usize = 256 * 1024;

pub(crate) fn name_of(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// The first records of the segments of a log, in order.
pub(crate) fn firsts(log: &Folder) -> Result<Vec<u64>, Error> {
    let names = log.names()?;
    let first = |name: &String| {
        let digits = name.strip_suffix(".jsonl")?;
        let first = digits.parse().ok()?;
        (name_of(first) == *name).then_some(first)
    };
    Ok(names.iter().filter_map(first).collect())
}

/// The lines of a file that is read from where it stands.
#[derive(Debug)]
pub(crate) struct Reader {
    file: BufReader<File>,
    path: String,
    line: Vec<u8>,
    /// Where the line begins that is read next.
    pub(crate) offset: u64,
}

/// A line, and whether a newline ended it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) whole: bool,
}

impl Reader {
    pub(crate) fn open(folder: &Folder, name: &str, offset: u64) -> Result<Self, Error> {
        let path = folder.path_of(name);
        let mut file = folder.file(name, OFlags::RDONLY)?;
        file.seek(SeekFrom::Start(offset))
            .map_err(Error::io(&path))?;
        Ok(Self {
            file: BufReader::with_capacity(BUFFER, file),
            path,
            line: Vec::new(),
            offset,
        })
    }

    /// The next line, without its newline; one that is too long comes in pieces that are not whole.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, Error> {
        self.line.clear();
        let max = LINE_BYTES_MAX as u64 + 1;
        let mut part = self.file.by_ref().take(max);
        let read = part
            .read_until(b'\n', &mut self.line)
            .map_err(Error::io(&self.path))?;
        self.offset += read as u64;
        Ok(match self.line.split_last() {
            None => None,
            Some((b'\n', bytes)) => Some(Line { bytes, whole: true }),
            Some(_) => Some(Line {
                bytes: &self.line,
                whole: false,
            }),
        })
    }
}

/// The lines of a log across its segments.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    log: &'a Folder,
    rest: std::vec::IntoIter<u64>,
    reader: Option<Reader>,
    /// The segment that is read.
    pub(crate) segment: u64,
}

/// A line and, when its segment begins with it, what that says the record's number is.
pub(crate) type Placed<'a> = (Line<'a>, Option<u64>);

impl<'a> Lines<'a> {
    /// From the segment that record `seq` is in.
    pub(crate) fn from(log: &'a Folder, seq: u64) -> Result<Self, Error> {
        let firsts = firsts(log)?;
        let skip = firsts.partition_point(|first| *first <= seq).max(1) - 1;
        let rest: Vec<u64> = firsts.into_iter().skip(skip).collect();
        Ok(Self {
            log,
            rest: rest.into_iter(),
            reader: None,
            segment: 0,
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Placed<'_>>, Error> {
        loop {
            let more = match &mut self.reader {
                Some(reader) => !reader
                    .file
                    .fill_buf()
                    .map_err(Error::io(&reader.path))?
                    .is_empty(),
                None => false,
            };
            if more {
                break;
            }
            let Some(first) = self.rest.next() else {
                return Ok(None);
            };
            self.segment = first;
            self.reader = Some(Reader::open(self.log, &name_of(first), 0)?);
        }
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let starts = (reader.offset == 0).then_some(self.segment);
        Ok(reader.next()?.map(|line| (line, starts)))
    }

    /// Where in its segment the next line begins.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.as_ref().map_or(0, |reader| reader.offset)
    }
}

/// The last whole line of a file, and where it ends.
pub(crate) fn last_line(file: &mut File, max: u64) -> std::io::Result<Option<(Vec<u8>, u64)>> {
    let size = file.seek(SeekFrom::End(0))?;
    let start = size.saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(max).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    tail.truncate(end);
    let begin = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let line = tail.split_off(begin);
    Ok(Some((line, start + end as u64 + 1)))
}
