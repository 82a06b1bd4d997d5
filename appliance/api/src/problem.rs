//! Errors as RFC 9457 problem details.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every error answer, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference for the kind of problem; `about:blank` when `title` says it all (RFC 9457 §4.2.1).
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: String,
    /// The kind of problem in words; does not vary between occurrences.
    #[schema(example = "Not Found")]
    pub title: String,
    /// The HTTP status code.
    #[schema(example = 404)]
    pub status: u16,
    /// This occurrence in words, with what to do about it.
    #[schema(example = "there is no service \"wbe\"; GET /api/v1/services lists them")]
    pub detail: Option<String>,
    /// The path that was asked for.
    #[schema(example = "/api/v1/services/wbe")]
    pub instance: Option<String>,
    /// One reason a line, where there are several (`/readyz`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}
