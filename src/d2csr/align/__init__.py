"""From two photographs to a training pair: the HR image warped onto the LR image's grid."""
