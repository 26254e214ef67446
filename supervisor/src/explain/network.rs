//! `explain FILE HOST:PORT`: by which line it is reached or not, and whether it answers at all.

use names::{HostName, HostRule, NamePattern, PortRule};
use profiles::{At, Ring};

use super::answer;
use crate::error::Failed;
use crate::run::{Request, reach};
use crate::words;

pub(super) fn host(request: &Request, host: &str, port: u16) -> Result<u8, Failed> {
    let ring = &request.ring;
    let shown = format!("{}:{port}", words::escape(host));
    if ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&host) {
        return loopback(ring, &shown, port);
    }
    let name = match HostName::parse(host) {
        Ok(name) => name,
        Err(error) => {
            let text = format!(
                "{shown}: refused by the network namespace: there is no route to an address, only to names ({error})\n"
            );
            return answer(false, &text);
        }
    };
    let allowed = ring.network.allow.iter();
    let Some(rule) = allowed.into_iter().find(|at| at.value.matches(&name, port)) else {
        return answer(false, &not_allowed(ring, &name, port));
    };
    let mut text = format!(
        "{shown}: allowed by agt-egress, through `{}` ({})\n",
        rule.value, rule.origin
    );
    if let Some(proxy) = &ring.network.upstream_proxy {
        text += &format!(
            "by way of the proxy {}:{} ({}), which decides for itself\n",
            proxy.value.host, proxy.value.port, proxy.origin
        );
        return answer(true, &text);
    }
    match reach(&ring.network, &name, port) {
        Ok(address) => {
            text += &format!("it answers at {address}: an error on it is not the sandbox's\n");
            answer(true, &text)
        }
        Err((egress::wire::Kind::NoSuchName | egress::wire::Kind::Unreachable, why)) => {
            text +=
                &format!("{why}\nthat is not the sandbox: this host does not reach it either\n");
            answer(true, &text)
        }
        Err((_, why)) => answer(false, &format!("{text}but refused by agt-egress: {why}\n")),
    }
}

fn not_allowed(ring: &Ring, name: &HostName, port: u16) -> String {
    let wish = std::num::NonZeroU16::new(port).map(|port| HostRule {
        pattern: NamePattern::Exact(name.clone()),
        port: PortRule::One(port),
    });
    let others: Vec<&At<HostRule>> = ring
        .network
        .allow
        .iter()
        .filter(|at| at.value.pattern.matches(name))
        .collect();
    let mut text = format!("{name}:{port}: refused by agt-egress: no rule allows it\n");
    if let Some(other) = others.first() {
        text += &format!(
            "`{}` ({}) allows another port of it\n",
            other.value, other.origin
        );
    }
    let within = wish.is_some_and(|wish| ring.ceiling.iter().any(|max| max.value.covers(&wish)));
    text += &if within {
        format!(
            "to change it: `network: {{allow: [\"{name}:{port}\"]}}` in {}\n",
            ring.file
        )
    } else if ring.ceiling.is_empty() {
        format!(
            "nothing in {} changes that: ring {} has no network; `ring: standard` has\n",
            ring.file, ring.ring
        )
    } else {
        let most: Vec<String> = ring.ceiling.iter().map(|at| at.value.to_string()).collect();
        format!(
            "nothing in {} changes that: ring {} permits {} ({})\n",
            ring.file,
            ring.ring,
            most.join(" "),
            ring.ring_file
        )
    };
    text
}

fn loopback(ring: &Ring, shown: &str, port: u16) -> Result<u8, Failed> {
    let mut ports = ring.network.host_ports.iter();
    if let Some(at) = ports.find(|at| at.value == port) {
        let text = format!(
            "{shown}: this host's own port, through `network.host_ports` ({})\n",
            at.origin
        );
        return answer(true, &text);
    }
    let text = format!(
        "{shown}: inside, the loopback is the ring's own; this host's is not reached\nto change it: `network: {{host_ports: [{port}]}}` in {}\n",
        ring.file
    );
    answer(false, &text)
}
