"""The zoom camera: tele and wide images of one scene, with the truth about both."""
