//! JSON that is kept as it was written: members that this version does not know may mean something to the next one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One value of JSON, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw(Box<str>);

/// The members of an object. They are taken one by one; the rest is what this version does not know.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

// === impl Raw ===

impl Raw {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&RawValue> for Raw {
    fn from(value: &RawValue) -> Self {
        Raw(value.get().into())
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(from)?;
        Ok(Raw::from(value))
    }
}

// === impl Members ===

impl<'a> Members<'a> {
    /// The members of the object that this text is.
    ///
    /// # Errors
    /// When it is no object of JSON.
    pub(crate) fn of(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What the members are called.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(Cow::as_ref)
    }

    /// Takes a member as it is.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.0.remove(name)
    }

    /// Takes a member that may be absent.
    ///
    /// # Errors
    /// When it is not of the type.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|error| format!("{name}: {error}"))
    }

    /// Takes a member that must be there.
    ///
    /// # Errors
    /// When it is absent or not of the type.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// Takes the elements of a list, each as it is.
    ///
    /// # Errors
    /// When it is no list.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<&'a RawValue>>, String> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|error| format!("{name}: {error}"))
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> BTreeMap<String, Raw> {
        self.0.into_iter().map(|(name, value)| (name.into_owned(), Raw::from(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_kept_as_written() {
        let text = r#"{"a": 1, "b": [1,  2], "c": {"d":  1.50}, "\u0065": null}"#;
        let mut members = Members::of(text).unwrap();
        assert_eq!(members.required::<u32>("a"), Ok(1));
        assert_eq!(members.list("b").unwrap().unwrap().len(), 2);
        assert_eq!(members.required::<u32>("a"), Err("a is missing".to_owned()));
        let rest = members.rest();
        assert_eq!(rest["c"].as_str(), r#"{"d":  1.50}"#);
        assert_eq!(serde_json::to_string(&rest).unwrap(), r#"{"c":{"d":  1.50},"e":null}"#);
        let again: BTreeMap<String, Raw> =
            serde_json::from_str(&serde_json::to_string(&rest).unwrap()).unwrap();
        assert_eq!(again, rest);
        assert!(Members::of("[1]").is_err());
    }
}
