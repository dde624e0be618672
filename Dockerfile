# VON in a container.
#   docker build -t von .                                       for CPUs
#   docker build -t von --build-arg TORCH=cuda .                for NVIDIA GPUs; run it with: docker run --gpus all
#   docker run --rm -it -v "$PWD:/work" -p 8765:8765 von doctor
FROM python:3.11-slim-bookworm

# cpu or cuda: which builds of torch are installed.
ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

COPY scripts/system_libraries.sh /tmp/
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends $(bash /tmp/system_libraries.sh list) gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/von
RUN if [ "$TORCH" = cpu ]; then \
        pip install --index-url https://download.pytorch.org/whl/cpu 'torch>=2.8,<2.14'; \
    fi \
    && pip install '/opt/von[s3,hub,segmenter,photos,meshes]' \
    && rm -rf /opt/von

WORKDIR /work
ENTRYPOINT ["von"]
CMD ["--help"]
