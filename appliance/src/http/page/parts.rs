//! Small pieces every section uses: tones, badges, icons, times.

use crate::human;
use maud::{Markup, PreEscaped, html};
use sluice_api::Snapshot;

/// How something fares. Always shown as colour, shape and word together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    /// Needs an eye.
    Warn,
    Bad,
    /// Neither good nor bad.
    Idle,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Idle => "idle",
        }
    }

    const fn icon(self) -> &'static str {
        match self {
            Self::Good => "#i-check",
            Self::Warn => "#i-warn",
            Self::Bad => "#i-cross",
            Self::Idle => "#i-dash",
        }
    }
}

/// A state in colour, shape and word.
pub(super) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (icon(tone)) span { (text) } } }
}

pub(super) fn icon(tone: Tone) -> Markup {
    html! { svg.icon viewBox="0 0 16 16" aria-hidden="true" { use href=(tone.icon()) {} } }
}

/// A panel's heading with what it counts.
pub(super) fn heading(id: &str, title: &str, note: &str) -> Markup {
    html! {
        header.panel-head {
            h2 id=(id) { (title) }
            @if !note.is_empty() { p { (note) } }
        }
    }
}

/// Says that there is nothing, and what to do about it; `sample` is a piece of configuration.
pub(super) fn empty(text: &str, sample: &str) -> Markup {
    html! {
        div.empty {
            p { (text) }
            @if !sample.is_empty() { pre { code { (sample) } } }
        }
    }
}

/// The moment of the snapshot in seconds since the epoch.
pub(super) fn now(snapshot: &Snapshot) -> Option<u64> {
    let started = human::epoch_seconds(&snapshot.status.started_at)?;
    started.checked_add(snapshot.status.uptime_seconds)
}

/// How long ago, with the exact time for those who ask.
pub(super) fn since(snapshot: &Snapshot, rfc3339: &str) -> Markup {
    let age = match (now(snapshot), human::epoch_seconds(rfc3339)) {
        (Some(now), Some(then)) => human::age(now.saturating_sub(then)),
        _ => return html! {},
    };
    html! { time datetime=(rfc3339) title=(rfc3339) { (age) } }
}

/// Icons once, used by reference.
pub(super) fn sprite() -> Markup {
    PreEscaped(SPRITE.to_owned())
}

/// Shapes differ as much as colours do: disc, triangle, square, ring.
const SPRITE: &str = r##"<svg width="0" height="0" class="sprite" aria-hidden="true"><defs>
<g id="i-check"><circle cx="8" cy="8" r="7" class="shape"/><path d="M4.8 8.3l2.2 2.2 4.3-4.7" class="mark"/></g>
<g id="i-warn"><path d="M8 1.2l7 13H1z" class="shape"/><path d="M8 6v4M8 12v.4" class="mark"/></g>
<g id="i-cross"><rect x="1.2" y="1.2" width="13.6" height="13.6" rx="3" class="shape"/><path d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" class="mark"/></g>
<g id="i-dash"><circle cx="8" cy="8" r="6.2" class="ring"/><path d="M5 8h6" class="ring"/></g>
</defs></svg>"##;
