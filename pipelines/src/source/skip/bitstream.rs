//! Whether other pictures refer to one, by its NAL unit headers.

/// How pictures are compressed, and how their NAL units are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// H.264, Rec. ITU-T H.264 7.3.1.
    H264(Units),
    /// H.265, Rec. ITU-T H.265 7.3.1.2.
    H265(Units),
    /// All others, of which nothing is known.
    Other,
}

/// What stands before a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// A start code, 00 00 01.
    StartCode,
    /// Its length in so many bytes.
    Length(usize),
}

impl Codec {
    /// The codec of a stream with these caps.
    pub fn of(caps: &gst::CapsRef) -> Self {
        let Some(caps) = caps.structure(0) else { return Self::Other };
        // Where the configuration lies that says how long a length is: avcC and hvcC of ISO/IEC
        // 14496-15.
        let units = |place: usize| {
            if caps.get::<&str>("stream-format") == Ok("byte-stream") {
                return Some(Units::StartCode);
            }
            let configuration = caps.get::<gst::Buffer>("codec_data").ok()?;
            let map = configuration.map_readable().ok()?;
            Some(Units::Length(usize::from(map.get(place)? & 3) + 1))
        };
        match caps.name().as_str() {
            "video/x-h264" => units(4).map_or(Self::Other, Self::H264),
            "video/x-h265" => units(21).map_or(Self::Other, Self::H265),
            _ => Self::Other,
        }
    }

    /// Whether another picture may refer to this one. Where that cannot be seen, it may.
    pub fn is_reference(self, data: &[u8]) -> bool {
        match self {
            // nal_unit_type 1 to 5 are slices; nal_ref_idc is 0 where nothing refers to them.
            Self::H264(units) => first(data, units, |header| (1..=5).contains(&(header & 0x1f)))
                .is_none_or(|header| header & 0x60 != 0),
            // Types below 16 are slices of pictures that are no random access point: the even ones
            // are not referred to by others of their temporal sub-layer, of which cameras have one;
            // 6 to 9 lead a key picture, which may have lost what they refer to.
            Self::H265(units) => first(data, units, |header| header >> 1 & 0x3f < 32)
                .map(|header| header >> 1 & 0x3f)
                .is_none_or(|kind| kind >= 16 || (kind % 2 == 1 && !(6..=9).contains(&kind))),
            Self::Other => true,
        }
    }
}

/// The first byte of the first NAL unit that `wanted` takes by it.
fn first(data: &[u8], units: Units, wanted: impl Fn(u8) -> bool) -> Option<u8> {
    match units {
        Units::StartCode => data
            .windows(4)
            .find(|window| window.starts_with(&[0, 0, 1]) && wanted(window[3]))
            .map(|window| window[3]),
        Units::Length(bytes) => {
            let mut rest = data;
            loop {
                let (length, after) = rest.split_at_checked(bytes)?;
                let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                let header = *after.first().filter(|_| length > 0)?;
                if wanted(header) {
                    return Some(header);
                }
                rest = after.get(length..)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 3] = [0x67, 1, 2];

    fn started(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    fn counted(units: &[&[u8]]) -> Vec<u8> {
        units
            .iter()
            .flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], *unit].concat())
            .collect()
    }

    #[test]
    fn pictures_that_nothing_refers_to_are_told_by_their_headers() {
        // Access unit delimiter, parameters, then a slice; H.265 has two bytes of header.
        for (slice, is_reference) in [(0x41, true), (0x61, true), (0x01, false), (0x65, true)] {
            let units: [&[u8]; 3] = [&[0x09, 0x10], &SPS, &[slice, 0x9a, 0]];
            let codec = Codec::H264(Units::StartCode);
            assert_eq!(codec.is_reference(&started(&units)), is_reference, "{slice:x}");
            let codec = Codec::H264(Units::Length(4));
            assert_eq!(codec.is_reference(&counted(&units)), is_reference, "{slice:x}");
        }
        // TRAIL_N, TRAIL_R, RADL_R, RASL_N, RASL_R, IDR_W_RADL, CRA_NUT.
        for (kind, is_reference) in
            [(0, false), (1, true), (7, false), (8, false), (9, false), (19, true), (21, true)]
        {
            let units: [&[u8]; 2] = [&[35 << 1, 1, 0x50], &[kind << 1, 1, 0x80]];
            let codec = Codec::H265(Units::StartCode);
            assert_eq!(codec.is_reference(&started(&units)), is_reference, "{kind}");
            let codec = Codec::H265(Units::Length(4));
            assert_eq!(codec.is_reference(&counted(&units)), is_reference, "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_be_referred_to() {
        let broken: [&[u8]; 5] = [&[], &[0], &[0, 0, 1], &[0xff; 9], &[0, 0, 0, 200, 0x67, 1]];
        for data in broken {
            for units in [Units::StartCode, Units::Length(1), Units::Length(4)] {
                assert!(Codec::H264(units).is_reference(data), "{data:?}");
                assert!(Codec::H265(units).is_reference(data), "{data:?}");
            }
            assert!(Codec::Other.is_reference(data));
        }
    }

    #[test]
    fn caps_tell_how_units_are_separated() {
        gst::init().unwrap();
        let of = |caps: &str| Codec::of(&caps.parse::<gst::Caps>().unwrap());
        assert_eq!(of("video/x-h264,stream-format=byte-stream"), Codec::H264(Units::StartCode));
        assert_eq!(
            of("video/x-h264,stream-format=avc,codec_data=(buffer)014d001ffd"),
            Codec::H264(Units::Length(2))
        );
        assert_eq!(of("video/x-h265,stream-format=byte-stream"), Codec::H265(Units::StartCode));
        // Too short to tell.
        assert_eq!(of("video/x-h265,stream-format=hvc1,codec_data=(buffer)0101"), Codec::Other);
        assert_eq!(of("image/jpeg"), Codec::Other);
    }
}
