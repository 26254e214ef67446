//! Generated references: schema, completions, manual page.

use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;

use crate::error::Failed;

/// A line on standard output, whether anybody reads it or not.
macro_rules! line {
    ($($words:tt)*) => {
        $crate::reference::print(&format!("{}\n", format_args!($($words)*)))?
    };
}
pub(crate) use line;

/// Data goes to standard output whole.
pub(crate) fn print(text: &str) -> Result<u8, Failed> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A pager that was left early is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failed::call("standard output")(error)),
        Ok(()) => Ok(0),
    }
}

pub(crate) fn schema(ring: bool) -> Result<u8, Failed> {
    print(&if ring {
        profiles::ring_schema()
    } else {
        profiles::agent_schema()
    })
}

pub(crate) fn completions(command: &mut Command, shell: Shell) -> Result<u8, Failed> {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "agt-supervisor", &mut text);
    print(&String::from_utf8_lossy(&text))
}

pub(crate) fn man(command: Command) -> Result<u8, Failed> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(Failed::call("the manual page"))?;
    print(&String::from_utf8_lossy(&text))
}
