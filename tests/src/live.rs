//! A run whose agent does what a file orders it to.

use std::fs;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::{Place, Ran, Who, sources, until};

/// How long anything here takes at most.
pub const SOON: Duration = Duration::from_secs(20);

/// What all of them are held to.
pub const POLICY: &str = "version: 1\nname: p\ndefault: allow\nrules:\n  \
    - {name: mail, match: {action: tool.call, tool: send_email}, verdict: escalate, reason: It goes out under our name.}\n  \
    - {name: wire, match: {action: tool.call, tool: wire}, verdict: escalate, approvers: [\"group:no-such-group\"]}\n  \
    - {name: taint, match: {action: tool.call, tool: taint}, verdict: allow, labels: {add: [tainted]}}\n  \
    - {name: never, match: {action: tool.call, tool: never}, verdict: deny}\n";

/// A run whose agent does what a file orders it to.
#[derive(Debug)]
pub struct Live {
    /// Its folder.
    pub place: Place,
    /// Its supervisor.
    pub child: Child,
}

impl Live {
    /// An agent in this ring, with more lines of agent.yaml.
    #[must_use]
    pub fn start(who: Who, ring: &str, more: &str) -> Self {
        Self::doing("signals", who, ring, more)
    }

    /// The same, doing something else than it is ordered to.
    #[must_use]
    pub fn doing(what: &str, who: Who, ring: &str, more: &str) -> Self {
        Self::begin(Self::prepared(what, who, ring, more), &[])
    }

    /// An agent in ring 2, started with more in the environment.
    #[must_use]
    pub fn with(who: Who, envs: &[(&str, &str)]) -> Self {
        Self::begin(Self::prepared("signals", who, "standard", ""), envs)
    }

    fn prepared(what: &str, who: Who, ring: &str, more: &str) -> Place {
        let place = Place::new(who);
        place.dir("ws");
        let program = sources().join("programs/governed.py");
        place.file("agent.py", fs::read(program).unwrap());
        let client = sources().join("../clients/python/agt/__init__.py");
        place.file("client/agt/__init__.py", fs::read(client).unwrap());
        place.file("policy.yaml", POLICY);
        let yaml = format!(
            "version: 1\nname: live\nring: {ring}\nworkspace: ./ws\nhome: none\nfiles: {{read: [./agent.py, ./client]}}\n\
             env: {{set: {{CLIENT: ../client, PYTHONDONTWRITEBYTECODE: \"1\"}}}}\npolicy: [policy.yaml]\n\
             command: [sh, -c, 'setsid sh -c \"while :; do echo >> beat; sleep 0.02; done\" & exec /usr/bin/python3 ../agent.py {what} > said']\n{more}"
        );
        place.file("agent.yaml", yaml);
        place
    }

    fn begin(place: Place, envs: &[(&str, &str)]) -> Self {
        let mut command = place.agt(&["run", "agent.yaml"]);
        let child = command.envs(envs.iter().copied()).spawn();
        let child = child.expect("agt-supervisor");
        let live = Self { place, child };
        live.until_said("up\n");
        live
    }

    /// The same agent once more, after its end.
    #[must_use]
    pub fn again(self) -> Self {
        let (place, ran) = self.end();
        ran.expect_code(137);
        fs::remove_file(place.dir.join("ws/said")).expect("what it said");
        Self::begin(place, &[])
    }

    /// What it wrote.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.place.dir.join("ws/said")).unwrap_or_default()
    }

    /// Waits until it wrote this.
    #[track_caller]
    pub fn until_said(&self, text: &str) {
        until(text, SOON, || self.said().contains(text));
    }

    /// Gives the agent its next order, which it takes when it runs.
    #[track_caller]
    pub fn order(&self, order: &str) {
        let path = self.place.dir.join("ws/order");
        until("the last order is taken", SOON, || !path.exists());
        self.place.file("ws/next", order);
        fs::rename(self.place.dir.join("ws/next"), path).expect("what was written");
    }

    /// The supervisor's answer to somebody in its place.
    #[must_use]
    pub fn agt(&self, args: &[&str]) -> Ran {
        self.place.finish(args)
    }

    /// As `ps` shows it.
    #[must_use]
    pub fn state(&self) -> Value {
        let all = self.agt(&["ps", "--json"]);
        let all: Value = serde_json::from_str(&all.stdout).expect("what was written");
        let mine = |one: &&Value| one["pid"] == self.child.id();
        all.as_array()
            .unwrap()
            .iter()
            .find(mine)
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// The name of its run.
    #[must_use]
    pub fn run(&self) -> String {
        self.state()["run"].as_str().unwrap().to_owned()
    }

    /// The one action that waits.
    #[must_use]
    pub fn waiting(&self) -> String {
        let mut found = String::new();
        until("it waits", SOON, || {
            let list = self.agt(&["approvals", "--json"]);
            let list: Value = serde_json::from_str(&list.stdout).expect("what was written");
            let run = self.run();
            let one = list
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["run"] == *run);
            found = one.map_or(String::new(), |one| one["id"].as_str().unwrap().to_owned());
            !found.is_empty()
        });
        found
    }

    /// The records of its newest log.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let shown = self.agt(&["audit", "show", "--json"]);
        shown
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(self) -> (Place, Ran) {
        (self.place, Ran::wait(self.child, SOON))
    }
}
