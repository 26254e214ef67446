//! Keys of a profile that only narrow what the parent says.

use std::path::Component;

use plan::syscalls::{self, SyscallSet};

use crate::agent::{self, Limits, PathWish};
use crate::error::Error;
use crate::node;
use crate::ring::{RingProfile, Socket};
use crate::shape::{Object, shorten};
use crate::value::{At, Layer};

/// The paths of a ring, which has no folder that they could be relative to.
pub(crate) fn absolute(
    object: &Object<'_>,
    name: &'static str,
) -> Result<Vec<At<PathWish>>, Error> {
    let paths = agent::paths(object, name)?;
    let lost = |at: &&At<PathWish>| {
        let path = &at.value.path;
        !path.is_absolute() || path.components().any(|part| part == Component::ParentDir)
    };
    match paths.iter().find(lost) {
        Some(at) => Err(object.wrong(name, at.span, "must be a path from `/` down without `..`")),
        None => Ok(paths),
    }
}

pub(crate) fn number(object: &Object<'_>, parent: Option<&RingProfile>) -> Result<u8, Error> {
    match (object.count("number")?, parent) {
        (Some(at), Some(_)) => {
            Err(object.wrong("number", at.span, "is for the built-in rings only"))
        }
        (None, Some(parent)) => Ok(parent.number),
        (
            Some(At {
                value: Some(number),
                ..
            }),
            None,
        ) => Ok(u8::try_from(number).unwrap_or(3)),
        (Some(_) | None, None) => Ok(3),
    }
}

/// A value that no line of the file gave.
pub(crate) fn unsaid<T>(file: &str, value: T) -> At<T> {
    At {
        value,
        origin: format!("{file}:1"),
        span: node::Span { line: 1, column: 1 },
    }
}

pub(crate) fn sockets(
    object: &Object<'_>,
    parent: Option<&RingProfile>,
) -> Result<Vec<Socket>, Error> {
    let one = |at: At<String>| {
        let kinds = [Socket::Unix, Socket::Inet, Socket::NetlinkRoute];
        let kind = kinds.into_iter().find(|kind| kind.name() == at.value);
        let kind = kind.ok_or_else(|| {
            let what = format!(
                "names `{}`: unix, inet or netlink-route",
                shorten(&at.value)
            );
            object.wrong("sockets", at.span, &what)
        })?;
        match parent {
            Some(parent) if !parent.sockets.contains(&kind) => {
                let what = format!("names {}, which ring {} has not", at.value, parent.name);
                Err(object.wrong("sockets", at.span, &what))
            }
            Some(_) | None => Ok(kind),
        }
    };
    object.texts("sockets")?.into_iter().map(one).collect()
}

/// `allow` replaces what a built-in ring starts with and can only keep what a parent has.
pub(crate) fn calls_of(
    object: &Object<'_>,
    parent: SyscallSet,
    has_parent: bool,
) -> Result<SyscallSet, Error> {
    let read = |name: &'static str| {
        let mut found = SyscallSet::EMPTY;
        for at in object.texts(name)? {
            let set = syscalls::set(&at.value)
                .or_else(|| syscalls::by_name(&at.value).map(|nr| [nr].into_iter().collect()));
            let set = set.ok_or_else(|| {
                let what = format!(
                    "names `{}`, which is no system call and no @set",
                    shorten(&at.value)
                );
                object.wrong(name, at.span, &what)
            })?;
            found = found.union(set);
        }
        Ok::<_, Error>(found)
    };
    let allowed = match (object.has("allow"), has_parent) {
        (true, false) => read("allow")?,
        (true, true) => read("allow")?.intersection(parent),
        (false, _) => parent,
    };
    Ok(allowed.difference(read("deny")?))
}

pub(crate) fn degrade(
    object: &Object<'_>,
    parent: Option<&RingProfile>,
) -> Result<Vec<Layer>, Error> {
    let one = |at: At<Layer>| match parent {
        Some(parent) if !parent.degrade.contains(&at.value) => {
            let what = format!(
                "names {}, which ring {} requires",
                at.value.name(),
                parent.name
            );
            Err(object.wrong("degrade", at.span, &what))
        }
        Some(_) | None => Ok(at.value),
    };
    agent::layers(object)?.into_iter().map(one).collect()
}

pub(crate) fn merge(base: &mut Limits, over: Limits) {
    fn take<T>(base: &mut Option<T>, over: Option<T>) {
        if over.is_some() {
            *base = over;
        }
    }
    take(&mut base.memory, over.memory);
    take(&mut base.cpu, over.cpu);
    take(&mut base.pids, over.pids);
    take(&mut base.files, over.files);
    take(&mut base.file_size, over.file_size);
    take(&mut base.tmp, over.tmp);
    take(&mut base.output, over.output);
    take(&mut base.wall, over.wall);
    take(&mut base.calls, over.calls);
    take(&mut base.tokens, over.tokens);
    take(&mut base.cost, over.cost);
}

/// A site's maxima are at most its parent's.
pub(crate) fn narrower(object: &Object<'_>, max: &Limits, parent: &Limits) -> Result<(), Error> {
    fn over<T: PartialOrd + Copy>(
        own: Option<&At<T>>,
        parent: Option<&At<T>>,
    ) -> Option<(node::Span, String)> {
        match (own, parent) {
            (Some(own), Some(parent)) if own.value > parent.value => {
                Some((own.span, parent.origin.clone()))
            }
            _ => None,
        }
    }
    /// `none` is the widest.
    fn over_optional<T: PartialOrd + Copy>(
        own: Option<&At<Option<T>>>,
        parent: Option<&At<Option<T>>>,
    ) -> Option<(node::Span, String)> {
        let (own, parent) = (own?, parent?);
        let most = parent.value?;
        let wider = own.value.is_none_or(|own| own > most);
        wider.then(|| (own.span, parent.origin.clone()))
    }
    let found = [
        over_optional(max.cpu.as_ref(), parent.cpu.as_ref()),
        over_optional(max.output.as_ref(), parent.output.as_ref()),
        over_optional(max.wall.as_ref(), parent.wall.as_ref()),
        over_optional(max.calls.as_ref(), parent.calls.as_ref()),
        over_optional(max.tokens.as_ref(), parent.tokens.as_ref()),
        over_optional(max.cost.as_ref(), parent.cost.as_ref()),
        over(max.memory.as_ref(), parent.memory.as_ref()),
        over(max.pids.as_ref(), parent.pids.as_ref()),
        over(max.files.as_ref(), parent.files.as_ref()),
        over(max.file_size.as_ref(), parent.file_size.as_ref()),
        over(max.tmp.as_ref(), parent.tmp.as_ref()),
    ];
    match found.into_iter().flatten().next() {
        Some((span, origin)) => {
            Err(object.wrong("max", span, &format!("is beyond the parent's, {origin}")))
        }
        None => Ok(()),
    }
}
