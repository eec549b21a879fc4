# smnet serve for exported files: no PyTorch, a user without rights, a root that may be read-only.
#   docker build -t smnet-serve .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -e SMNET_TOKEN -v $PWD/best.onnx:/model.onnx:ro \
#     smnet-serve /model.onnx
FROM python:3.11-slim
WORKDIR /build
COPY . .
RUN sh tools/install_server.sh /opt/smnet && rm -rf /build
RUN useradd --system --no-create-home smnet
USER smnet
WORKDIR /tmp
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK CMD ["/opt/smnet/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/smnet/bin/smnet", "serve", "--host", "0.0.0.0"]
