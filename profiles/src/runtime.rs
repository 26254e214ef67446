//! The system runtime: what every ring sees of the host, as data.

use crate::error::Error;
use crate::node::{self, Value};
use crate::shape::{Key, Object, Shape};

/// What every ring sees of the system.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Read-only paths; absent ones are absent inside.
    pub read: Vec<String>,
    /// Names below `/dev`.
    pub devices: Vec<String>,
    /// Names below `/proc` that are hidden.
    pub masked: Vec<String>,
}

const RUNTIME: &[Key] = &[
    runtime_key("version", Shape::Version),
    runtime_key("read", Shape::Texts),
    runtime_key("devices", Shape::Texts),
    runtime_key("masked", Shape::Texts),
];

const fn runtime_key(name: &'static str, shape: Shape) -> Key {
    Key {
        name,
        shape,
        doc: "",
        default: "",
        example: "",
        or_none: false,
    }
}

impl Runtime {
    /// The system runtime.
    ///
    /// # Errors
    /// None in a released build: a test reads it.
    pub fn system() -> Result<Self, Error> {
        let file = "runtime system";
        let root = node::parse(file, include_bytes!("../runtime/system.yaml"))?;
        debug_assert!(matches!(root.value, Value::Map(_)));
        let object = Object::open(file, &root, RUNTIME, "")?;
        let list = |name| -> Result<Vec<String>, Error> {
            Ok(object.texts(name)?.into_iter().map(|at| at.value).collect())
        };
        Ok(Self {
            read: list("read")?,
            devices: list("devices")?,
            masked: list("masked")?,
        })
    }
}
