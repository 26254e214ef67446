//! The three engines, each with a policy and ready to be asked as quickly as its interface lets one.

use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use serde_json::{Map, Value};

/// Whatever goes wrong is said and ends the program.
pub type Said<T> = Result<T, Box<dyn std::error::Error>>;

/// Ours.
#[derive(Debug)]
pub struct Ours {
    engine: policy::Engine,
    scratch: policy::Scratch,
    limits: policy::Limits,
}

impl Ours {
    /// From a policy's text.
    pub fn new(text: &str) -> Said<Self> {
        let policy =
            policy::Policy::parse("oracle", text.as_bytes(), &policy::Variables::default());
        let engine = policy::Engine::new(vec![policy.map_err(|error| error.to_string())?]);
        let scratch = engine.scratch();
        Ok(Self {
            engine,
            scratch,
            limits: policy::Limits::default(),
        })
    }

    /// Whether it lets an action go ahead.
    pub fn allows(&mut self, action: &policy::Action) -> bool {
        self.engine
            .decide(action, &mut self.limits, &mut self.scratch)
            .verdict
            .allows()
    }
}

/// Cedar.
pub struct Cedar {
    policies: PolicySet,
    entities: Entities,
    authorizer: Authorizer,
}

impl Cedar {
    /// From a policy's text.
    pub fn new(text: &str) -> Said<Self> {
        Ok(Self {
            policies: PolicySet::from_str(text)?,
            entities: Entities::empty(),
            authorizer: Authorizer::new(),
        })
    }

    /// An action as its request.
    pub fn request(json: &Map<String, Value>) -> Said<Request> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let fields = ["path", "tool", "host"]
            .into_iter()
            .filter(|name| json.contains_key(*name));
        let pairs = fields.map(|name| {
            let value = RestrictedExpression::new_string(text(name).to_owned());
            (name.to_owned(), value)
        });
        let id = |kind: &str, name: &str| -> Said<EntityUid> {
            Ok(EntityUid::from_str(&format!("{kind}::\"{name}\""))?)
        };
        let context = Context::from_pairs(pairs)?;
        let principal = id("Agent", text("agent"))?;
        let action = id("Action", text("action"))?;
        Ok(Request::new(
            principal,
            action,
            id("Resource", "any")?,
            context,
            None,
        )?)
    }

    /// Whether it lets an action go ahead.
    #[must_use]
    pub fn allows(&self, request: &Request) -> bool {
        let answer = self
            .authorizer
            .is_authorized(request, &self.policies, &self.entities);
        answer.decision() == Decision::Allow
    }
}

const ENTRY: &str = "data.oracle.verdict";

/// Regorus, interpreting.
#[derive(Debug)]
pub struct Regorus(regorus::Engine);

impl Regorus {
    /// From a policy's text.
    pub fn new(text: &str) -> Said<Self> {
        let mut engine = regorus::Engine::new();
        engine.add_policy("oracle.rego".into(), text.into())?;
        Ok(Self(engine))
    }

    /// Whether it lets an action go ahead.
    pub fn allows(&mut self, input: &regorus::Value) -> bool {
        self.0.set_input(input.clone());
        self.0
            .eval_rule(ENTRY.into())
            .is_ok_and(|value| value == true.into())
    }
}

/// Regorus' machine of instructions, which does not take every size.
pub struct Machine(RegoVM);

impl Machine {
    /// From a policy's text.
    pub fn new(text: &str) -> Said<Self> {
        let mut engine = regorus::Engine::new();
        engine.add_policy("oracle.rego".into(), text.into())?;
        let compiled = engine.compile_with_entrypoint(&Arc::from(ENTRY))?;
        let program = Compiler::compile_from_policy(&compiled, &[ENTRY])?;
        let mut machine = RegoVM::new();
        machine.load_program(program);
        Ok(Self(machine))
    }

    /// Whether it lets an action go ahead.
    pub fn allows(&mut self, input: &regorus::Value) -> bool {
        self.0.set_input(input.clone());
        self.0.execute().is_ok_and(|value| value == true.into())
    }
}

/// An action as Rego's input.
pub fn input(json: &str) -> Said<regorus::Value> {
    Ok(regorus::Value::from_json_str(json)?)
}
