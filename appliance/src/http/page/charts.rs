//! Line charts of the last two minutes, as SVG.

use crate::human;
use maud::{Markup, html};
use sluice_api::{RatePoint, Snapshot};
use std::fmt::Write as _;

/// Seconds from the left edge to the right one.
const SPAN_SECONDS: u64 = 119;
/// The drawing's own units; it is stretched to its box.
const WIDTH: f64 = 238.0;
const HEIGHT: f64 = 64.0;

/// One line of a chart.
struct Line {
    label: &'static str,
    class: &'static str,
    value: fn(&RatePoint) -> f64,
}

/// One chart.
struct Chart {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    lines: &'static [Line],
}

const CHARTS: [Chart; 4] = [
    Chart {
        id: "chart-packets",
        title: "Packets",
        unit: "packets/s",
        lines: &[
            Line { label: "in", class: "in", value: |point| point.rates.packets_in },
            Line { label: "out", class: "out", value: |point| point.rates.packets_out },
        ],
    },
    Chart {
        id: "chart-bits",
        title: "Throughput",
        unit: "bit/s",
        lines: &[
            Line { label: "in", class: "in", value: |point| point.rates.bytes_in * 8.0 },
            Line { label: "out", class: "out", value: |point| point.rates.bytes_out * 8.0 },
        ],
    },
    Chart {
        id: "chart-flows",
        title: "New flows",
        unit: "flows/s",
        lines: &[Line { label: "new", class: "new", value: |point| point.rates.new_flows }],
    },
    Chart {
        id: "chart-drops",
        title: "Drops",
        unit: "packets/s",
        lines: &[Line { label: "dropped", class: "dropped", value: |point| point.drops }],
    },
];

pub(super) fn charts(snapshot: &Snapshot) -> Markup {
    html! { @for chart in &CHARTS { (draw(chart, &snapshot.history)) } }
}

fn draw(chart: &Chart, history: &[RatePoint]) -> Markup {
    let last = history.last().copied().unwrap_or_default();
    let visible = || history.iter().filter(|point| point.at + SPAN_SECONDS >= last.at);
    let highest = chart
        .lines
        .iter()
        .flat_map(|line| visible().map(|point| (line.value)(point)))
        .fold(0.0, f64::max);
    let top = nice_ceiling(highest);
    let current: Vec<String> = chart
        .lines
        .iter()
        .map(|line| format!("{} {}", line.label, human::si((line.value)(&last))))
        .collect();
    let description = format!("{}, {}: {}", chart.title, chart.unit, current.join(", "));
    html! {
        article.chart {
            header {
                h2 { (chart.title) span.unit { (chart.unit) } }
                p.legend {
                    @for line in chart.lines {
                        span class={ "key " (line.class) } {
                            @if chart.lines.len() > 1 { span.label { (line.label) } }
                            b { (human::si((line.value)(&last))) }
                        }
                    }
                }
            }
            div.plot {
                span.top { (scale_label(top)) }
                svg #(chart.id) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none"
                    role="img" aria-label=(description) {
                    path.grid d="M0 .5H238M0 21.3H238M0 42.6H238" {}
                    @for line in chart.lines {
                        @let points = points(history, last.at, top, line.value);
                        @if let (Some(first), Some(end)) = (points.first(), points.last()) {
                            @let trace = trace(&points);
                            path class={ "area " (line.class) }
                                d={ (trace) "V" (HEIGHT) "H" (first.0) "z" } {}
                            path class={ "line " (line.class) } d=(trace) {}
                            // A single second is a dot, not a line of length zero.
                            @if points.len() == 1 {
                                path class={ "line " (line.class) } d={ "M" (end.0) " " (end.1) "h-1" } {}
                            }
                        }
                    }
                }
            }
            p.axis aria-hidden="true" { span { "−2 min" } span { "−1 min" } span { "now" } }
        }
    }
}

/// Places points by their second, so that a gap stays a gap in time and a young history starts at the right.
fn points(
    history: &[RatePoint],
    now: u64,
    top: f64,
    value: fn(&RatePoint) -> f64,
) -> Vec<(f64, f64)> {
    history
        .iter()
        .filter_map(|point| {
            let ago = u32::try_from(now.checked_sub(point.at)?).ok()?;
            let x = WIDTH - f64::from(ago) * 2.0;
            let share = (value(point) / top).clamp(0.0, 1.0);
            // The line is kept a unit away from the edges, which would cut it.
            let y = HEIGHT - 1.0 - share * (HEIGHT - 2.0);
            (x >= 0.0).then_some((x, (y * 10.0).round() / 10.0))
        })
        .collect()
}

fn trace(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        // Writing to a String cannot fail.
        _ = write!(path, "{}{x} {y}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

/// The next round number: a scale that moves seldom and reads well.
fn nice_ceiling(highest: f64) -> f64 {
    if !highest.is_finite() || highest <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(highest.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|top| *top >= highest)
        .unwrap_or(highest)
}

/// `30k` where [`human::si`] says `30.0k`: the scale is round.
fn scale_label(top: f64) -> String {
    let text = human::si(top);
    let digits = text.trim_end_matches(char::is_alphabetic);
    let suffix = text.strip_prefix(digits).unwrap_or_default();
    let short = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{short}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::Rates;

    #[test]
    fn the_scale_is_round() {
        for (highest, top) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, 1.0),
            (1.1, 1.5),
            (19.0, 20.0),
            (20.0, 20.0),
            (21.0, 30.0),
            (51_000.0, 60_000.0),
        ] {
            assert_eq!(nice_ceiling(highest), top, "{highest}");
        }
    }

    #[test]
    fn the_scale_is_short() {
        for (top, text) in
            [(1.0, "1"), (20.0, "20"), (200.0, "200"), (1500.0, "1.5k"), (30_000.0, "30k")]
        {
            assert_eq!(scale_label(top), text);
        }
    }

    #[test]
    fn points_are_placed_by_their_second() {
        let at = |at, packets_in| RatePoint {
            at,
            rates: Rates { packets_in, ..Rates::default() },
            drops: 0.0,
        };
        let history = [at(1, 9.0), at(1000 - 119, 10.0), at(1000, 0.0), at(1001, 3.0)];
        let placed = points(&history, 1000, 10.0, |point| point.rates.packets_in);
        assert_eq!(placed, [(0.0, 1.0), (238.0, 63.0)], "too old and too new are left out");
        assert_eq!(trace(&placed), "M0 1L238 63");
    }
}
