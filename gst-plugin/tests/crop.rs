//! Pictures of which `GstVideoCropMeta` shows a part.

#![allow(clippy::unwrap_used)]

mod common;

use common::{FRAME, Rig, counted};
use gst::prelude::*;
use gst_video::prelude::*;
use vehiclecount_core::report::FrameReport;

/// Left, top, width, height.
type Rect = (u32, u32, u32, u32);

fn caps(format: gst_video::VideoFormat, width: u32, height: u32) -> gst::Caps {
    let info =
        gst_video::VideoInfo::builder(format, width, height).fps(gst::Fraction::new(25, 1)).build();
    info.unwrap().to_caps().unwrap()
}

/// A picture in which no two parts are alike.
fn textured(info: &gst_video::VideoInfo) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    {
        let mut map = buffer.get_mut().unwrap().map_writable().unwrap();
        for (index, byte) in map.iter_mut().enumerate() {
            *byte = ((index / 97 * 31 + index / 7 * 13) % 200 + 28) as u8;
        }
    }
    buffer
}

/// The part of the picture in `buffer`, copied.
fn copied(
    buffer: &gst::Buffer,
    info: &gst_video::VideoInfo,
    (x, y, width, height): Rect,
) -> gst::Buffer {
    let part = gst_video::VideoInfo::builder(info.format(), width, height).build().unwrap();
    let from = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let mut copy = gst::Buffer::with_size(part.size()).unwrap();
    {
        let mut to =
            gst_video::VideoFrameRef::from_buffer_ref_writable(copy.get_mut().unwrap(), &part)
                .unwrap();
        for plane in 0..info.n_planes() {
            let component =
                (0..info.n_components()).find(|&c| info.comp_plane(c as u8) == plane).unwrap();
            let (across, down) = {
                let format = info.format_info();
                (format.w_sub()[component as usize], format.h_sub()[component as usize])
            };
            let pixel = info.comp_pstride(component as u8) as usize;
            let (column, row) = ((x >> across) as usize * pixel, (y >> down) as usize);
            let (bytes, rows) = (((width >> across) as usize) * pixel, (height >> down) as usize);
            let strides = [from.plane_stride()[plane as usize], to.plane_stride()[plane as usize]];
            let [stride, stride_of_copy] = strides.map(|stride| stride as usize);
            let source = from.plane_data(plane).unwrap();
            let target = to.plane_data_mut(plane).unwrap();
            for line in 0..rows {
                let begin = (row + line) * stride + column;
                target[line * stride_of_copy..][..bytes].copy_from_slice(&source[begin..][..bytes]);
            }
        }
    }
    copy
}

/// Shows a part of the picture in `buffer`.
fn crop(buffer: &mut gst::Buffer, info: &gst_video::VideoInfo, rect: Rect) {
    let buffer = buffer.make_mut();
    let flags = gst_video::VideoFrameFlags::empty();
    gst_video::VideoMeta::add(buffer, flags, info.format(), info.width(), info.height()).unwrap();
    gst_video::VideoCropMeta::add(buffer, rect);
}

fn pass(rig: &mut Rig, mut buffer: gst::Buffer, number: u64) -> FrameReport {
    buffer.make_mut().set_pts(number * FRAME);
    rig.cameras[0].push(buffer).unwrap();
    rig.pull(0)
}

#[test]
fn part_that_is_shown_is_counted_as_if_it_were_all_there_is() {
    use gst_video::VideoFormat::*;
    common::init();
    for (format, rect) in [
        (Rgb, (37, 21, 64, 48)),
        (Bgrx, (1, 0, 99, 51)),
        (Gray8, (63, 47, 65, 49)),
        (Nv12, (32, 16, 64, 64)),
        (I420, (2, 40, 80, 40)),
        // All of it.
        (Rgb, (0, 0, 128, 96)),
    ] {
        let info = gst_video::VideoInfo::builder(format, 128, 96).build().unwrap();
        let mut rig = Rig::new("crop", 1, |_| {});
        rig.cameras[0].set_src_caps(caps(format, rect.2, rect.3));
        let mut picture = textured(&info);
        let expected = pass(&mut rig, copied(&picture, &info, rect), 0);
        crop(&mut picture, &info, rect);
        let got = pass(&mut rig, picture, 1);
        assert!(!got.stale && counted(&got) > 0.0, "{format:?}");
        let (got, expected) = (got.density.unwrap(), expected.density.unwrap());
        assert_eq!(got.grid, expected.grid, "{format:?}");
        for (got, expected) in got.cells.iter().zip(expected.cells.iter()) {
            assert!((got - expected).abs() < 1e-4, "{format:?}: {got}, not {expected}");
        }
        rig.end();
    }
}

#[test]
fn part_that_moves_from_frame_to_frame_is_followed() {
    let mut rig = Rig::new("moving-crop", 1, |_| {});
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 128, 64).build().unwrap();
    // Black on the left, red on the right.
    let row = [[0u8, 0, 0].repeat(64), [255u8, 0, 0].repeat(64)].concat();
    for (number, (left, expected)) in
        [(0, 0.0), (64, 64.0), (32, 32.0), (0, 0.0)].into_iter().enumerate()
    {
        let mut picture = gst::Buffer::from_mut_slice(row.repeat(64));
        crop(&mut picture, &info, (left, 0, 64, 64));
        let got = counted(&pass(&mut rig, picture, number as u64));
        assert!((got - expected).abs() < 1e-3, "from column {left}: {got}, not {expected}");
    }
    rig.end();
}

#[test]
fn part_that_lies_outside_its_picture_is_passed_uncounted_with_a_warning() {
    let mut rig = Rig::new("bad-crop", 1, |_| {});
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 128, 64).build().unwrap();
    for (number, rect) in
        [(65, 0, 64, 64), (0, 1, 64, 64), (0, 0, 0, 64), (u32::MAX, u32::MAX, u32::MAX, 2)]
            .into_iter()
            .enumerate()
    {
        let mut picture = textured(&info);
        crop(&mut picture, &info, rect);
        assert!(pass(&mut rig, picture, number as u64).stale);
    }
    let text = rig.warning();
    assert!(text.contains("part of 64x64 at 65, 0 of a picture of 128x64"), "{text}");
    rig.push(0, 255, 9);
    assert_eq!(counted(&rig.pull(0)), 64.0);
    rig.end();
}

#[test]
fn elements_that_crop_without_a_copy_are_told_that_they_may() {
    let rig = Rig::new("crop-allocation", 1, |_| {});
    rig.element.static_pad("src_0").unwrap().add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM,
        |_, info| {
            if let Some(gst::QueryViewMut::Allocation(allocation)) =
                info.query_mut().map(|query| query.view_mut())
            {
                allocation.add_allocation_meta::<gst_video::VideoCropMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        },
    );
    let caps = common::CAPS.parse::<gst::Caps>().unwrap();
    let mut query = gst::query::Allocation::new(Some(&caps), false);
    assert!(rig.element.static_pad("sink_0").unwrap().query(query.query_mut()));
    assert!(query.find_allocation_meta::<gst_video::VideoCropMeta>().is_some());
    rig.end();
}
