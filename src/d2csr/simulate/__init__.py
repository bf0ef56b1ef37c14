"""The zoom camera: tele and wide pictures of one scene, with the truth about both."""
