//! Who holds an agent to a rule, whether it asks or not.

use std::fmt;

use crate::condition::Condition;
use crate::files;
use crate::pattern::{Field, FieldMatch};
use crate::{ActionKind, Rule};

/// From the strongest to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Enforcer {
    /// The ring's mounts, for what is there when the run starts.
    Kernel,
    /// The one way out of the ring's network.
    Egress,
    /// The supervisor, where the agent asks it.
    Socket,
    /// Nobody: no action that the rule is about has all of its fields.
    Nothing,
}

impl fmt::Display for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Egress => "egress",
            Self::Socket => "socket only",
            Self::Nothing => "nothing",
        })
    }
}

/// Whether actions of this kind ever have this field.
fn carries(kind: ActionKind, field: &Field) -> bool {
    use ActionKind as K;
    match field {
        Field::Agent | Field::Ring | Field::Session | Field::Labels | Field::Given(_) => true,
        Field::Tool | Field::Args(_) => kind == K::ToolCall,
        Field::Path => matches!(kind, K::FsRead | K::FsWrite | K::FsDelete | K::ToolCall),
        Field::Host => matches!(kind, K::NetConnect | K::ToolCall),
        Field::Port => matches!(kind, K::NetConnect | K::NetListen | K::ToolCall),
        Field::Program | Field::Argv => matches!(kind, K::Exec | K::RingElevate),
    }
}

/// The weakest of those who enforce a rule, over the kinds of action that it is about and that have
/// its fields: what can be relied on.
#[must_use]
pub fn enforced_by(rule: &Rule) -> Enforcer {
    let kinds = rule.kinds.iter().filter(|kind| {
        let all = |field: &FieldMatch| carries(*kind, &field.field);
        rule.matches.iter().all(all)
    });
    kinds
        .map(|kind| of_kind(rule, kind))
        .max()
        .unwrap_or(Enforcer::Nothing)
}

fn of_kind(rule: &Rule, kind: ActionKind) -> Enforcer {
    use ActionKind as K;
    match kind {
        K::NetConnect | K::NetListen if egress_knows(rule) => Enforcer::Egress,
        K::NetConnect | K::NetListen => Enforcer::Socket,
        K::FsRead | K::FsWrite if files::is_kept(rule, kind) => Enforcer::Kernel,
        K::FsRead | K::FsWrite | K::FsDelete | K::Exec => Enforcer::Socket,
        K::ToolCall | K::ModelCall | K::MemoryWrite => Enforcer::Socket,
        K::AgentSpawn | K::AgentMessage | K::RingElevate => Enforcer::Socket,
    }
}

/// It judges by names, ports and who connects, at each connection.
fn egress_knows(rule: &Rule) -> bool {
    let known = ["action", "agent", "ring", "host", "port", "labels", "time"];
    let conditions = rule.conditions.iter().all(|condition| match condition {
        Condition::When(cel) | Condition::Unless(cel) => {
            cel.variables().iter().all(|name| known.contains(name))
        }
        Condition::Toolkit(_) => false,
    });
    let fields = rule.matches.iter().all(|field| match field.field {
        Field::Host | Field::Port | Field::Agent | Field::Ring | Field::Labels => true,
        Field::Session | Field::Tool | Field::Path | Field::Program => false,
        Field::Argv | Field::Args(_) | Field::Given(_) => false,
    });
    conditions && fields
}
