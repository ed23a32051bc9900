//! A picture of a camera as a JPEG, made when it is asked for.

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use crate::source::Reason;
use crate::source::decode::element;

/// A picture may take this long.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// How a picture is shown.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// With its count and its regions drawn onto it.
    pub annotated: bool,
    /// Width in pixels at most.
    pub width: u32,
}

/// The raw picture of `sample` as a JPEG, in its own proportions.
///
/// # Errors
/// An element that is missing, or a picture that cannot be converted.
pub fn jpeg(sample: &gst::Sample, view: View) -> Result<Vec<u8>> {
    let caps = sample.caps().context("a picture has caps")?;
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    let sink = gst_app::AppSink::builder().sync(false).build();
    let mut chain = vec![source.clone().upcast()];
    let (width, height) = size(&info, view.width);
    if view.annotated {
        let overlay = element("vehiclecountoverlay")?;
        // What is drawn is made smaller with the picture.
        let scale = f64::from(info.width()) / f64::from(width.max(1));
        overlay.set_property("text-scale", scale.clamp(1.0, 2.0));
        chain.push(overlay);
    }
    chain.extend([element("videoscale")?, element("videoconvert")?]);
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(width)
        .height(height)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1))
        .build();
    let filter = gst::ElementFactory::make("capsfilter").property("caps", caps).build()?;
    chain.extend([filter, element("jpegenc")?, sink.clone().upcast()]);
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    let _stop = super::camera::StopLast(pipeline.clone());
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    pipeline.set_state(gst::State::Playing)?;
    // Where this fails, the message on the bus says why.
    let _ = source.push_sample(sample);
    let _ = source.end_of_stream();
    let Some(encoded) = sink.try_pull_sample(PATIENCE) else {
        match bus.pop_filtered(&[gst::MessageType::Error]).as_deref().map(gst::MessageRef::view) {
            Some(gst::MessageView::Error(error)) => bail!("{}", Reason::of(error)),
            _ => bail!("the picture took more than {} s", PATIENCE.seconds()),
        }
    };
    let buffer = encoded.buffer().context("a picture has a buffer")?;
    Ok(buffer.map_readable()?.to_vec())
}

/// The size at which a picture is shown: square pixels, no wider than `most`, even.
fn size(info: &gst_video::VideoInfo, most: u32) -> (i32, i32) {
    let par = info.par();
    let shown = f64::from(info.width()) * f64::from(par.numer()) / f64::from(par.denom().max(1));
    let width = shown.min(f64::from(most)).max(2.0);
    let height = f64::from(info.height()) * width / shown.max(1.0);
    let even = |length: f64| ((length / 2.0).round() as i32 * 2).max(2);
    (even(width), even(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(size: (u32, u32), par: (i32, i32)) -> gst::Sample {
        gst::init().unwrap();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, size.0, size.1)
            .par(gst::Fraction::new(par.0, par.1))
            .build()
            .unwrap();
        let buffer = gst::Buffer::from_slice(vec![128; info.size()]);
        gst::Sample::builder().buffer(&buffer).caps(&info.to_caps().unwrap()).build()
    }

    #[test]
    fn picture_keeps_its_proportions_and_is_never_enlarged() {
        for (size, par, most, shown) in [
            ((640, 360), (1, 1), 4096, (640, 360)),
            ((1920, 1080), (1, 1), 480, (480, 270)),
            ((720, 576), (16, 11), 4096, (1048, 576)),
            ((720, 576), (16, 11), 320, (320, 176)),
            ((16, 8000), (1, 1), 64, (16, 8000)),
        ] {
            let view = View { annotated: false, width: most };
            let jpeg = jpeg(&picture(size, par), view).unwrap();
            let decoded = image::load_from_memory(&jpeg).unwrap();
            assert_eq!((decoded.width(), decoded.height()), shown, "{size:?} {par:?} {most}");
        }
    }
}
