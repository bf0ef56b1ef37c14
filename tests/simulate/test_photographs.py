"""Values sampled once for both photographs of a scene, or for each."""

import numpy as np

from d2csr.simulate.camera_config import CameraConfig
from d2csr.simulate.photographs import plan_pair

PHOTO = np.full((200, 240, 3), 128, np.uint8)


def test_filter_and_sharpening_are_sampled_once_for_both_photographs():
    """One camera took them: what differs between the two is the lens, the pose, the light."""
    camera = CameraConfig()
    drawn = []
    for seed in range(8):
        both = plan_pair(PHOTO, camera, scale=2, fields=1.0, seed=(seed,))
        wide, tele = both.wide, both.tele
        assert wide.shot.sensor == tele.shot.sensor == both.registered.shot.sensor
        assert wide.isp.config == tele.isp.config
        assert wide.shot.lens.psf_sigma_um != tele.shot.lens.psf_sigma_um
        olpf_um, same = wide.shot.sensor.olpf_um
        assert olpf_um == same
        drawn.append((olpf_um, wide.isp.config.sharpening[0]))
    for values, ends in zip(
        np.transpose(drawn), (camera.sensor.olpf_um, camera.isp.sharpening), strict=True
    ):
        assert len(set(values)) == len(drawn)
        assert ends[0] <= min(values) < max(values) <= ends[1]
