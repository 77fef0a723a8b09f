# The app on a CPU.
#
#   docker build -t spatialavatar .
#   docker run --rm -p 7860:7860 spatialavatar
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" spatialavatar spatialavatar generate me.jpg
#
# PIP_ARGS: more arguments for pip, for instance an index of torch wheels without CUDA, which make the image 4 GB smaller.
FROM python:3.12-slim

ARG PIP_ARGS=""
ARG TORCH="torch==2.11.0"

RUN useradd --create-home avatar
COPY . /tmp/source
RUN pip install --no-cache-dir $PIP_ARGS "$TORCH" \
    && pip install --no-cache-dir $PIP_ARGS "/tmp/source[app]" \
    && rm -rf /tmp/source

RUN mkdir /data && chown avatar /data
USER avatar
WORKDIR /data
# Compiled kernels and downloads, where any user may write.
ENV NUMBA_CACHE_DIR=/tmp/numba \
    HF_HOME=/tmp/huggingface \
    GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
CMD ["spatialavatar", "app", "--host", "0.0.0.0", "--port", "7860"]
