//! Label selectors of pools.

use super::{Trouble, trouble};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use std::collections::BTreeMap;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// A selector that is in order; none takes everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Chooses(Option<Selector>);

// === impl Chooses ===

impl Chooses {
    /// Reads a selector; `field` is its name for what is wrong with it.
    pub(super) fn read(field: &str, selector: Option<&LabelSelector>) -> Result<Self, Trouble> {
        let Some(selector) = selector else { return Ok(Chooses(None)) };
        for one in selector.match_expressions.iter().flatten() {
            let has_values = one.values.as_ref().is_some_and(|values| !values.is_empty());
            let wants_values = match one.operator.as_str() {
                "In" | "NotIn" => true,
                "Exists" | "DoesNotExist" => false,
                other => {
                    let what = format!(
                        "{field} has operator {other:?}; use In, NotIn, Exists or DoesNotExist"
                    );
                    return Err(trouble("InvalidPool", what));
                }
            };
            if has_values != wants_values {
                let some = if wants_values { "needs values" } else { "takes no values" };
                let what = format!("{field}: {} of {} {some}", one.operator, one.key);
                return Err(trouble("InvalidPool", what));
            }
        }
        let read = Selector::try_from(selector.clone());
        read.map(|s| Chooses(Some(s))).map_err(|e| trouble("InvalidPool", format!("{field}: {e}")))
    }

    /// True when an object with these labels is chosen; `None` stands for an object that is not known.
    pub(super) fn takes(&self, labels: Option<&Labels>) -> bool {
        self.0.as_ref().is_none_or(|selector| labels.is_some_and(|labels| selector.matches(labels)))
    }
}
