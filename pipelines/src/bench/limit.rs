//! What no counter can be faster than: the engine by itself, and the decoder by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use gst::prelude::*;

use super::clips::{Clip, Codec, run_to_end};
use super::figure::{Figure, Section, Subject};
use super::rate::processor_time;
use super::turns::{self, Contender, Sample, Turns};
use super::{Bench, SIZES, bare};
use crate::source::file;

/// Measures the bare engine at each input size, and the decoder on clips of each kind.
pub(super) fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let mut contenders = vec![bare::contender(bench, &bench.engine, &bench.first.to_string())];
    for (choice, engine) in &bench.others {
        contenders.push(bare::contender(bench, engine, &choice.to_string()));
    }
    let engines = contenders.len();
    let sizes = if bench.options.quick { vec![bench.camera] } else { SIZES.to_vec() };
    for &codec in &bench.codecs {
        for &size in &sizes {
            contenders.push(decoder(bench, codec, size)?);
        }
    }
    let mut figures =
        turns::take(Section::Limit, bench.options.rounds, Turns::Alike, &mut contenders)?;
    figures.iter_mut().skip(engines).for_each(|figure| figure.ratio = None);
    Ok(figures)
}

fn decoder<'a>(bench: &Bench<'_>, codec: Codec, size: (u32, u32)) -> Result<Contender<'a>> {
    let clips = bench.clips(codec, size)?;
    let (width, height) = size;
    Ok(Contender {
        name: format!("decoder, {} {width}x{height}", codec.title()),
        subject: Subject {
            codec: Some(codec.name().to_owned()),
            size: Some(size),
            ..Default::default()
        },
        unit: "frames/s",
        measure: Box::new(move || decoded(&clips)),
    })
}

/// Decodes `clips` at the same time, as the sources of a counter do.
fn decoded(clips: &[Clip]) -> Result<Sample> {
    let pipeline = gst::Pipeline::new();
    let frames = Arc::new(AtomicU64::new(0));
    for clip in clips {
        let source = file::source(&clip.file, None)?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink])?;
        source.link(&sink)?;
        let seen = frames.clone();
        let pad = sink.static_pad("sink").context("a sink has a pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            seen.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    }
    let (begin, busy) = (Instant::now(), processor_time());
    run_to_end(&pipeline)?;
    let frames = frames.load(Ordering::Relaxed) as f64;
    anyhow::ensure!(frames > 0.0, "nothing is decoded of {}", clips[0].file.display());
    Ok(Sample {
        value: frames / begin.elapsed().as_secs_f64(),
        processor: Some((processor_time() - busy) / frames),
    })
}
