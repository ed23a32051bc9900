//! What a camera costs, from what a bench has measured. docs/planning.md describes the model.

use thiserror::Error;

use crate::bench::{Codec, Figure, Report, Section};

/// What a camera sends, and how often it is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    /// How it is compressed.
    pub codec: Codec,
    /// Width of its pictures in pixels.
    pub width: u32,
    /// Height of its pictures in pixels.
    pub height: u32,
    /// Pictures a second.
    pub fps: f64,
    /// Counts a second.
    pub rate: f64,
    /// Key pictures a second.
    pub keys: f64,
}

impl Stream {
    /// Counts a second: not more than there are pictures.
    pub fn counts(&self) -> f64 {
        self.rate.min(self.fps)
    }

    /// Pictures a second that are decoded: key pictures alone where they suffice, one for each
    /// count; else all, which is a bound.
    pub fn decoded(&self) -> f64 {
        if self.needs_keys_alone() { self.counts() } else { self.fps }
    }

    fn needs_keys_alone(&self) -> bool {
        self.counts() <= self.keys
    }

    fn pixels(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height)
    }
}

/// A cost that grows with the pixels of a picture, in seconds of processor time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    base: f64,
    each: f64,
}

impl Line {
    /// Through the outer ones of the points (pixels, seconds); a cost is not negative anywhere.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        let by_pixels = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
        let (first, last) = (points.iter().min_by(by_pixels)?, points.iter().max_by(by_pixels)?);
        let proportional = Self { base: 0.0, each: last.1 / last.0 };
        if last.0 - first.0 <= 0.0 {
            return Some(proportional);
        }
        let each = (last.1 - first.1) / (last.0 - first.0);
        let base = first.1 - each * first.0;
        Some(match (base < 0.0, each < 0.0) {
            (true, _) => proportional,
            (_, true) => Self { base: (first.1 + last.1) / 2.0, each: 0.0 },
            _ => Self { base, each },
        })
    }

    fn at(self, pixels: f64) -> f64 {
        self.base + self.each * pixels
    }
}

/// What the streams of one codec cost, in seconds of processor time.
#[derive(Clone, Copy, Debug)]
struct Decoding {
    codec: Codec,
    /// A picture among others.
    any: Line,
    /// A key picture alone, for each pixel.
    key: f64,
    /// A picture that is received and not decoded, at the size that was measured.
    receive: f64,
    /// The pixels of that size.
    pixels: f64,
}

/// A bench from which nothing can be computed.
#[derive(Debug, Error, PartialEq)]
pub enum ModelError {
    /// It was a run of `--quick`.
    #[error("it was measured with --quick, which measures nothing: run the bench without")]
    Quick,
    /// Its JSON is another one.
    #[error(
        "it has schema {0}, and {known} is known here: measure anew with this version's bench",
        known = crate::bench::SCHEMA
    )]
    Schema(u32),
    /// A section was left out.
    #[error("it has no {0}: run the bench with section {1}")]
    Missing(&'static str, &'static str),
}

/// What counting costs on a machine.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Processors of the machine.
    pub processors: f64,
    decoding: Vec<Decoding>,
    /// Seconds of processor time of a count, engine and all, without the preprocessing of the size
    /// that was measured.
    count: f64,
    /// Preprocessing of a picture.
    preprocess: Line,
    /// Counts a second with the engine always at work.
    rate: f64,
}

fn pixels(figure: &Figure) -> Option<f64> {
    figure.subject.size.map(|(width, height)| f64::from(width) * f64::from(height))
}

impl Costs {
    /// From what `report` has measured.
    ///
    /// # Errors
    /// What it did not measure.
    pub fn of(report: &Report) -> Result<Self, ModelError> {
        if report.schema != crate::bench::SCHEMA {
            return Err(ModelError::Schema(report.schema));
        }
        if report.quick {
            return Err(ModelError::Quick);
        }
        let element = report
            .figures
            .iter()
            .filter(|figure| figure.section == Section::Element && figure.subject.cameras > Some(1))
            .min_by_key(|figure| figure.subject.cameras)
            .or_else(|| report.find(Section::Element, |figure| figure.subject.cameras.is_some()))
            .ok_or(ModelError::Missing("element with cameras", "element"))?;
        let (whole, size) = element
            .processor_ms
            .zip(pixels(element))
            .ok_or(ModelError::Missing("processor time of the element", "element"))?;
        let input = element.subject.input.clone();
        let ours = |figure: &&Figure| {
            figure.section == Section::Preprocess
                && figure.name.starts_with("ours")
                && figure.subject.format.as_deref() == Some("I420")
                && figure.subject.input == input
        };
        let preprocess: Vec<_> = report
            .figures
            .iter()
            .filter(ours)
            .filter_map(|figure| Some((pixels(figure)?, figure.spread.median / 1e3)))
            .collect();
        let preprocess =
            Line::through(&preprocess).ok_or(ModelError::Missing("preprocessing", "preprocess"))?;
        let count = (whole / 1e3 - preprocess.at(size)).max(0.0);
        let decoding: Vec<_> = [Codec::H264, Codec::H265]
            .into_iter()
            .filter_map(|codec| {
                let of = |section: Section, figure: &Figure| {
                    figure.section == section
                        && figure.subject.codec.as_deref() == Some(codec.name())
                };
                let any: Vec<_> = report
                    .figures
                    .iter()
                    .filter(|figure| of(Section::Limit, figure))
                    .filter_map(|figure| Some((pixels(figure)?, figure.processor_ms? / 1e3)))
                    .collect();
                let any = Line::through(&any)?;
                // Cores of a camera at two rates: what grows with the rate is the counted pictures'
                // own, the rest is what every picture costs.
                let mut rates: Vec<_> = report
                    .figures
                    .iter()
                    .filter(|figure| of(Section::Rate, figure) && figure.unit == "cores")
                    .filter_map(|figure| {
                        let subject = &figure.subject;
                        Some((subject.rate?, figure.spread.median, subject.fps?, pixels(figure)?))
                    })
                    .collect();
                rates.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (low, high) = (rates.first()?, rates.last()?);
                let each = match high.0 - low.0 {
                    apart if apart > 0.0 => (high.1 - low.1).max(0.0) / apart,
                    _ => high.1 / high.0,
                };
                let (fps, pixels) = (low.2, low.3);
                let receive = (low.1 - low.0 * each).max(0.0) / fps;
                let key = (each - count - preprocess.at(pixels)).max(any.at(pixels)) / pixels;
                Some(Decoding { codec, any, key, receive, pixels })
            })
            .collect();
        if decoding.is_empty() {
            return Err(ModelError::Missing("decoder and cameras at a rate", "limit,rate"));
        }
        let (processors, rate) = (report.processors as f64, element.spread.median);
        Ok(Self { processors, decoding, count, preprocess, rate })
    }

    fn decoding(&self, codec: Codec) -> Option<&Decoding> {
        self.decoding.iter().find(|decoding| decoding.codec == codec)
    }

    /// Processors that receiving a camera of `stream` keeps busy; `None` where its codec was not
    /// measured.
    pub fn receiving(&self, stream: &Stream) -> Option<f64> {
        let decoding = self.decoding(stream.codec)?;
        // Larger pictures are more bytes; of small ones the packets' own cost is left.
        let scale = (stream.pixels() / decoding.pixels).max(1.0);
        Some(stream.fps * decoding.receive * scale)
    }

    /// Processors that a camera of `stream` keeps busy; `None` where its codec was not measured.
    pub fn camera(&self, stream: &Stream) -> Option<f64> {
        let decoding = self.decoding(stream.codec)?;
        let pixels = stream.pixels();
        let decode = match stream.needs_keys_alone() {
            true => decoding.key * pixels,
            false => decoding.any.at(pixels),
        };
        let count = self.count + self.preprocess.at(pixels);
        Some(self.receiving(stream)? + stream.decoded() * decode + stream.counts() * count)
    }

    /// Cameras of `stream` that the machine holds with `load` of its processors, and of the time of
    /// its engine, which may be on a GPU, at work.
    pub fn cameras(&self, stream: &Stream, load: f64) -> Option<u32> {
        let processors = self.processors * load / self.camera(stream)?.max(1e-9);
        let engine = self.rate * load / stream.counts().max(1e-9);
        Some(processors.min(engine) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::bench::Spread;

    fn stream(codec: Codec, (width, height): (u32, u32), rate: f64) -> Stream {
        Stream { codec, width, height, fps: 25.0, rate, keys: 1.0 }
    }

    const FULL: (u32, u32) = (1920, 1080);

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 1e-6
    }

    #[test]
    fn measured_cameras_cost_what_was_measured() {
        let costs = Costs::of(&report()).expect("a whole bench");
        // 0.04 cores at a count a second, by the report.
        let once = costs.camera(&stream(Codec::H264, FULL, 1.0));
        assert!(once.is_some_and(|cores| near(cores, 0.04)), "{once:?}");
        // 2 processors, eight tenths of them.
        assert_eq!(costs.cameras(&stream(Codec::H264, FULL, 1.0), 0.8), Some(40));
    }

    #[test]
    fn engine_that_is_no_processor_is_a_bound_of_its_own() {
        let mut report = report();
        let element = report.figures.iter_mut().find(|figure| figure.section == Section::Element);
        element.expect("it was measured").spread = Spread::single(30.0);
        let costs = Costs::of(&report).expect("a whole bench");
        assert_eq!(costs.cameras(&stream(Codec::H264, FULL, 1.0), 0.8), Some(24));
    }

    #[test]
    fn all_pictures_are_decoded_where_counts_are_more_than_key_pictures() {
        let costs = Costs::of(&report()).expect("a whole bench");
        // By the report: 20 ms/s of receiving 25 pictures, 2 ms to decode, 5 ms and the larger
        // picture's 0.1 ms to count.
        let often = costs.camera(&stream(Codec::H264, FULL, 5.0));
        let expected = 0.02 + 25.0 * 0.002 + 5.0 * 0.0051;
        assert!(often.is_some_and(|cores| near(cores, expected)), "{often:?}");
        let all = stream(Codec::H264, FULL, 100.0);
        assert_eq!((all.counts(), all.decoded()), (25.0, 25.0));
    }

    #[test]
    fn larger_pictures_cost_more_in_proportion() {
        let costs = Costs::of(&report()).expect("a whole bench");
        let cores = |size| costs.camera(&stream(Codec::H264, size, 5.0)).unwrap_or(0.0);
        let (small, full, four) = (cores((1280, 720)), cores(FULL), cores((3840, 2160)));
        assert!(small < full && full < four && four < 4.0 * full, "{small} {full} {four}");
    }

    #[test]
    fn codec_that_was_not_measured_has_no_answer() {
        let mut report = report();
        report.figures.retain(|figure| figure.subject.codec.as_deref() != Some("h265"));
        let costs = Costs::of(&report).expect("a bench of H.264");
        assert_eq!(costs.camera(&stream(Codec::H265, FULL, 1.0)), None);
    }

    #[test]
    fn incomplete_bench_says_what_it_lacks() {
        let without = |section: Section| {
            let mut report = report();
            report.figures.retain(|figure| figure.section != section);
            Costs::of(&report).map(drop).map_err(|error| error.to_string())
        };
        for (section, named) in [
            (Section::Element, "section element"),
            (Section::Preprocess, "section preprocess"),
            (Section::Limit, "section limit,rate"),
            (Section::Rate, "section limit,rate"),
        ] {
            assert!(without(section).is_err_and(|said| said.contains(named)), "{section:?}");
        }
        let quick = Report { quick: true, ..report() };
        assert_eq!(Costs::of(&quick).map(drop), Err(ModelError::Quick));
        let newer = Report { schema: 7, ..report() };
        assert_eq!(Costs::of(&newer).map(drop), Err(ModelError::Schema(7)));
    }

    #[test]
    fn line_is_not_negative_anywhere() {
        let line = |points: &[(f64, f64)]| Line::through(points).map(|line| (line.base, line.each));
        assert_eq!(line(&[(10.0, 2.0), (20.0, 3.0)]), Some((1.0, 0.1)));
        assert_eq!(line(&[(10.0, 1.0), (20.0, 3.0)]), Some((0.0, 0.15)));
        assert_eq!(line(&[(10.0, 3.0), (20.0, 1.0)]), Some((2.0, 0.0)));
        assert_eq!(line(&[(10.0, 3.0)]), Some((0.0, 0.3)));
        assert_eq!(line(&[]), None);
    }
}
