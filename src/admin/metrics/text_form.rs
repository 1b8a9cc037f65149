//! Which text form a scraper gets.

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0.0, for those that ask for it.
    OpenMetrics,
    /// Text form 0.0.4 of Prometheus, which everything reads.
    Prometheus,
}

impl Form {
    /// The form that the values of `Accept` fields prefer (RFC 9110, section 12.5.1).
    pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut open, mut plain) = (0.0_f64, 0.0_f64);
        for range in accept.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            let weight = weight.unwrap_or(0.0);
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" => plain = plain.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes what is given as OpenMetrics in this form.
    pub(super) fn write(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Prometheus => prometheus(&openmetrics),
        }
    }
}

/// The older form names a counter's family like its samples, and knows neither units nor an end.
fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        if let Some(of) = line.strip_prefix("# HELP ") {
            help = Some(of);
            continue;
        }
        let family = line.strip_prefix("# TYPE ").and_then(|of| of.split_once(' '));
        let Some((name, kind)) = family else {
            text.extend([line, "\n"]);
            continue;
        };
        let total = if kind == "counter" { "_total" } else { "" };
        if let Some((_, help)) = help.take().and_then(|help| help.split_once(' ')) {
            text.extend(["# HELP ", name, total, " ", help, "\n"]);
        }
        text.extend(["# TYPE ", name, total, " ", kind, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_that_ask_for_it() {
        let wanted = |accept: &[&str]| Form::wanted(accept.iter().copied());
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5, \
                          application/openmetrics-text;version=0.0.1;q=0.4, \
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for open in [prometheus, "application/openmetrics-text", "Application/OpenMetrics-Text;q=1"]
        {
            assert_eq!(wanted(&[open]), Form::OpenMetrics, "{open}");
        }
        assert_eq!(wanted(&["text/html", "application/openmetrics-text"]), Form::OpenMetrics);
        assert_eq!(wanted(&[]), Form::Prometheus);
        for plain in [
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;q=0.1, text/plain",
        ] {
            assert_eq!(wanted(&[plain]), Form::Prometheus, "{plain}");
        }
    }

    #[test]
    fn the_older_form_names_counters_like_their_samples() {
        let openmetrics = "# HELP a Count of a.\n# TYPE a counter\na_total{x=\"# EOF\"} 1\n\
            # HELP b_seconds Time of b.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\n\
            b_seconds 2.0\n# EOF\n";
        let text = "# HELP a_total Count of a.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n\
            # HELP b_seconds Time of b.\n# TYPE b_seconds gauge\nb_seconds 2.0\n";
        assert_eq!(Form::Prometheus.write(openmetrics.to_owned()), text);
        assert_eq!(Form::OpenMetrics.write(openmetrics.to_owned()), openmetrics);
    }
}
