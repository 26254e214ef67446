//! Why a name or a rule is refused, and what to write instead.

use std::fmt;

/// A name or rule that is none. `Display` says what is wrong and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nothing was written.
    Empty,
    /// It is, or could be read as, an IP address.
    Address,
    /// A scheme, a path or a query came with it.
    Url,
    /// A user came with it.
    UserInfo,
    /// A character that no host name has.
    Character(char),
    /// No host name by the rules of IDNA: a label's length, hyphens, unassigned characters.
    Name,
    /// `*` anywhere but as the whole first label.
    WildcardPlace,
    /// `*.com`: a suffix of one label is everybody's.
    WildcardWide,
    /// A rule without a port.
    NoPort,
    /// The port is no number from 1 to 65535 and not `*`.
    Port,
    /// No `address/length`, or bits beyond the length.
    Cidr,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Empty => "no name; write one, for example `api.example.com:443`",
            Error::Address => {
                "this is an IP address, or can be read as one; write the host's name, because rules are \
                 about names"
            }
            Error::Url => {
                "this is a URL; write only host and port, for example `api.example.com:443`"
            }
            Error::UserInfo => "a user before `@` is no part of a rule; write only host and port",
            Error::Character(found) => {
                return write!(
                    f,
                    "{found:?} is not allowed in a host name; use letters, digits, hyphens and dots"
                );
            }
            Error::Name => {
                "no valid host name; labels have 1 to 63 letters, digits and inner hyphens, a name at \
                 most 253"
            }
            Error::WildcardPlace => {
                "`*` can only be the whole first label; write `*.example.com:443` or name each host"
            }
            Error::WildcardWide => {
                "a wildcard needs at least two labels after it, for example `*.example.com:443`"
            }
            Error::NoPort => "no port; add the port, for example `api.example.com:443`",
            Error::Port => "no such port; write a number from 1 to 65535, or `*` for every port",
            Error::Cidr => {
                "no address range; write one such as `10.0.0.0/8`, with no bit set after its length"
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for Error {}
