//! Cameras on a GPU, computed from published figures. docs/planning.md has the sources.

use super::model::Stream;
use crate::bench::Codec;

/// A GPU of a table, whose figures its maker has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Gpu {
    /// NVIDIA T4 (Turing)
    T4,
    /// NVIDIA A2 (Ampere)
    A2,
    /// NVIDIA A10 (Ampere)
    A10,
    /// NVIDIA L4 (Ada)
    L4,
}

/// What is published of a GPU.
struct Published {
    title: &'static str,
    /// Pictures of 1920x1080 a second that one decoder of the generation takes, H.264 and H.265:
    /// NVIDIA Video Codec SDK 13.0, NVDEC Application Note, section 3.
    decoder: (f64, f64),
    /// Decoders on the chip, by its data sheet.
    decoders: f64,
    /// Pictures a second of ResNet-50 in INT8: MLPerf Inference, closed division, Offline, one GPU.
    resnet: f64,
}

/// The decoders of these boards run at lower clocks than those of the application note: NVIDIA says
/// of the T4 that it decodes 38 streams of 1920x1080 with 30 pictures a second, which is 0.74 of
/// what the note has for two decoders of its generation.
const CLOCK: f64 = 38.0 * 30.0 / (2.0 * 771.0);

/// Multiplications of ResNet-50 for a picture of 224x224.
const RESNET: f64 = 4.1e9;

/// How much of ResNet-50's arithmetic a second a network of depthwise convolutions reaches on a
/// GPU: EfficientNet-B0 (0.39e9 multiplications) makes 10,239 pictures a second on an A100 (NVIDIA
/// DeepLearningExamples, mixed precision, batches of 256), ResNet-50 39,152.
const SHARE: f64 = 10_239.0 * 0.39e9 / (39_152.0 * RESNET);

/// Multiplications of the default network for a pixel of its input.
const NETWORK: f64 = 5_230.0;

/// What bounds the number of cameras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The GPU's decoders.
    Decoder,
    /// The network.
    Engine,
    /// The machine's processors, which receive the streams.
    Processors,
}

impl Gpu {
    fn published(self) -> Published {
        let turing = (771.0, 1316.0);
        let ampere = (748.0, 1415.0);
        let ada = (903.0, 1641.0);
        let (title, decoder, decoders, resnet) = match self {
            // MLPerf Inference 0.7, 2.0, 1.1 and 3.1.
            Self::T4 => ("NVIDIA T4", turing, 2.0, 6_035.6),
            Self::A2 => ("NVIDIA A2", ampere, 2.0, 3_036.6),
            Self::A10 => ("NVIDIA A10", ampere, 2.0, 13_805.2),
            Self::L4 => ("NVIDIA L4", ada, 4.0, 12_881.7),
        };
        Published { title, decoder, decoders, resnet }
    }

    /// What it is called.
    pub fn title(self) -> &'static str {
        self.published().title
    }

    /// Pictures of `stream` that all its decoders take in a second.
    pub fn decoded(self, stream: &Stream) -> f64 {
        let published = self.published();
        let one = match stream.codec {
            Codec::H264 => published.decoder.0,
            Codec::H265 => published.decoder.1,
        };
        let pixels = f64::from(stream.width) * f64::from(stream.height);
        one * published.decoders * CLOCK * 1920.0 * 1080.0 / pixels
    }

    /// Pictures a second of the default network with an input of `pixels`.
    pub fn counted(self, pixels: f64) -> f64 {
        self.published().resnet * RESNET * SHARE / (NETWORK * pixels)
    }

    /// Cameras of `stream` with `load` of decoders and network at work, where the network's input
    /// has `pixels`, and what bounds them.
    pub fn cameras(self, stream: &Stream, pixels: f64, load: f64) -> (u32, Bound) {
        let decoder = self.decoded(stream) * load / stream.decoded().max(1e-9);
        let engine = self.counted(pixels) * load / stream.counts().max(1e-9);
        match decoder <= engine {
            true => (decoder as u32, Bound::Decoder),
            false => (engine as u32, Bound::Engine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rate: f64) -> Stream {
        Stream { codec: Codec::H264, width: 1920, height: 1080, fps: 30.0, rate, keys: 1.0 }
    }

    #[test]
    fn t4_decodes_the_streams_that_its_maker_says() {
        let (cameras, bound) = Gpu::T4.cameras(&stream(2.0), 512.0 * 288.0, 1.0);
        assert!((37..=38).contains(&cameras) && bound == Bound::Decoder, "{cameras}, {bound:?}");
    }

    #[test]
    fn decoders_have_less_to_do_where_key_pictures_suffice() {
        let (all, _) = Gpu::L4.cameras(&stream(2.0), 512.0 * 288.0, 0.8);
        let (keys, bound) = Gpu::L4.cameras(&stream(1.0), 512.0 * 288.0, 0.8);
        assert!(keys > 10 * all && bound == Bound::Engine, "{keys} and {all} cameras, {bound:?}");
    }

    #[test]
    fn network_is_the_bound_of_a_small_gpu_that_counts_every_picture() {
        let (_, bound) = Gpu::A2.cameras(&stream(30.0), 512.0 * 288.0, 0.8);
        assert_eq!(bound, Bound::Engine);
        assert!(Gpu::A2.counted(288.0 * 288.0) > 1.7 * Gpu::A2.counted(512.0 * 288.0));
    }
}
