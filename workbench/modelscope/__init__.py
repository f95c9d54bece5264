"""Downloads models and data sets from ModelScope, which needs the extra `modelscope`."""
