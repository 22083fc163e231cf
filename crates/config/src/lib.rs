//! What operators write: values with their places in the text, from TOML, JSON and EDN.
//!
//! The three texts become one tree, a [`Value`], in which everything knows the line and column where it begins.
//! [`Fields`] reads a table of it: what is missing, wrong or unknown becomes a [`Problem`] that says where and
//! what is allowed, and all of them are told at once.
//!
//! ```
//! use bpfsmith_config::{Problems, toml};
//!
//! let value = toml::read("port = 80\nprot = \"tcp\"\n")?;
//! let problems = Problems::new();
//! let mut fields = value.fields(&problems);
//! assert_eq!(fields.need::<u16>("port"), Some(80));
//! assert_eq!(fields.get::<String>("protocol"), None);
//! fields.end();
//! assert_eq!(
//!     problems.end().unwrap_err().to_string(),
//!     "line 2, column 1: there is no prot here: did you mean protocol?"
//! );
//! # Ok::<(), Problems>(())
//! ```

pub mod desired;
pub mod edit;
pub mod edn;
pub mod fields;
mod import;
pub mod json;
mod parts;
pub mod problem;
pub mod read;
mod scan;
mod schema;
mod spot;
pub mod toml;
pub mod value;
mod words;
mod write;

#[doc = include_str!("../REFERENCE.md")]
pub mod reference {}

pub use edit::{Document, EditError, Effect};
pub use fields::Fields;
pub use problem::{Problem, Problems};
pub use read::Read;
pub use value::{At, Entry, Kind, Value};
