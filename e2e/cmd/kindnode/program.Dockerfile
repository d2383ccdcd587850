# One program that nodes run in a container, with what kube-proxy needs beside it.
FROM scratch
ADD program.tar /
ARG PROGRAM
COPY program/$PROGRAM /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
