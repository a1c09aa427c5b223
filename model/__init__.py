"""The DeconvNet: layers, training data, training, export, and the restorer that workers load. Knows nothing of Beam."""
