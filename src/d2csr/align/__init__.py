"""From two photographs to a training pair: the HR picture warped onto the LR picture's grid."""
