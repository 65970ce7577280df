import os
import socket
import termios
import threading

import pytest
import serial

from wpg.hardware_bridge.errors import LinkError, LinkUrlError
from wpg.hardware_bridge.links import open_link, parse_link_url, serve_link


def receive_all(link, size, timeout_s=5.0):
    data = b""
    while len(data) < size:
        piece = link.receive(timeout_s)
        assert piece, f"nothing more after {len(data)} of {size} bytes"
        data += piece
    return data


def exchange(link):
    for _ in range(10):
        link.send(b"x")
        link.receive(0.1)


@pytest.fixture(params=["pty:", "udp://127.0.0.1:0", "tcp://127.0.0.1:0", "udp://[::1]:0"])
def server(request):
    link = serve_link(request.param)
    yield link
    link.close()


class TestBackToBack:
    """What every link does, whatever it is made of."""

    @pytest.fixture
    def client(self, server):
        link = open_link(server.url)
        # A stream's server learns of its client here.
        server.receive(0.0)
        yield link
        link.close()

    def test_both_ways(self, server, client):
        assert client.send(b"ping")
        assert receive_all(server, 4) == b"ping"
        server.answer_sender()
        assert server.answers_sender()
        assert server.send(b"pong")
        assert receive_all(client, 4) == b"pong"

    def test_every_byte_value_passes_unchanged(self, server, client):
        data = bytes(range(256)) * 4
        client.send(data)
        assert receive_all(server, len(data)) == data
        server.answer_sender()
        server.send(data)
        assert receive_all(client, len(data)) == data

    def test_nothing_to_receive(self, server, client):
        assert client.receive(0.0) == b""
        assert client.receive(0.001) == b""
        assert server.receive(0.0) == b""
        assert client.receive(-1.0) == b""

    def test_nobody_reads(self, server, client):
        for _ in range(2000):
            if not client.send(b"x" * 1024):
                break
        assert receive_all(server, 1024)

    def test_client_comes_back(self, server, client):
        client.send(b"one")
        receive_all(server, 3)
        client.close()
        server.receive(0.01)
        again = open_link(server.url)
        server.receive(0.01)
        again.send(b"two")
        assert receive_all(server, 3) == b"two"
        server.answer_sender()
        server.send(b"three")
        assert receive_all(again, 5) == b"three"
        again.close()

    def test_server_goes_away(self, server, client):
        client.send(b"x")
        receive_all(server, 1)
        server.close()
        with pytest.raises(LinkError, match="robot"):
            exchange(client)

    def test_closed(self, server, client):
        client.close()
        client.close()
        with pytest.raises(LinkError):
            client.receive(0.0)
        server.close()
        server.close()
        with pytest.raises(LinkError):
            server.receive(0.0)


def test_a_stranger_draws_no_answers_to_himself():
    server = serve_link("udp://127.0.0.1:0")
    client, stranger = open_link(server.url), open_link(server.url)
    client.send(b"asked")
    assert receive_all(server, 5) == b"asked"
    server.answer_sender()
    stranger.send(b"noise")
    assert receive_all(server, 5) == b"noise"
    assert not server.answers_sender()
    server.send(b"answer")
    assert receive_all(client, 6) == b"answer"
    assert stranger.receive(0.0) == b""
    for link in (server, client, stranger):
        link.close()


def test_send_before_any_client_is_dropped():
    for url in ("udp://127.0.0.1:0", "tcp://127.0.0.1:0"):
        server = serve_link(url)
        assert not server.send(b"x")
        server.close()


class TestOpening:
    def test_port_that_does_not_exist(self):
        with pytest.raises(LinkError, match=r"no port /dev/nonesuch; ports here: "):
            open_link("serial:///dev/nonesuch")

    def test_port_in_use(self):
        server = serve_link("pty:")
        client = open_link(server.url)
        with pytest.raises(LinkError, match="in use by another program"):
            open_link(server.url)
        client.close()
        open_link(server.url).close()
        server.close()

    def test_a_port_has_the_described_baudrate(self):
        master, slave = os.openpty()
        url = f"serial://{os.ttyname(slave)}"
        open_link(url, baudrate=57_600).close()
        assert termios.tcgetattr(slave)[4:6] == [termios.B57600] * 2
        open_link(f"{url}?baudrate=115200").close()
        assert termios.tcgetattr(slave)[4:6] == [termios.B115200] * 2
        with pytest.raises(LinkUrlError, match=r"says \[bus\] baudrate = 57600, the link 115200: correct"):
            open_link(f"{url}?baudrate=115200", baudrate=57_600)
        os.close(master)
        os.close(slave)

    def test_closing_a_port_restarts_no_board(self):
        master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[2] |= termios.HUPCL
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        assert termios.tcgetattr(slave)[2] & termios.HUPCL
        open_link(f"serial://{os.ttyname(slave)}").close()
        assert not termios.tcgetattr(slave)[2] & termios.HUPCL
        os.close(master)
        os.close(slave)

    def test_no_serial_port_at_all(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        with pytest.raises(LinkError, match=str(path)):
            open_link(f"serial://{path}")

    def test_an_adapter_by_another_name_has_low_latency_too(self, tmp_path, monkeypatch):
        asked = []
        monkeypatch.setattr(serial.Serial, "set_low_latency_mode", lambda port, on: asked.append(on))
        name = tmp_path / "usb-FTDI_FT232R-if00-port0"
        server = serve_link("pty:")
        name.symlink_to(parse_link_url(server.url).path)
        open_link(f"serial://{name}").close()
        server.close()
        assert asked == [True]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
    def test_port_without_permission(self, tmp_path):
        path = tmp_path / "port"
        path.touch(mode=0)
        with pytest.raises(LinkError, match="usermod -aG dialout"):
            open_link(f"serial://{path}")

    def test_nothing_listens_on_tcp(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(LinkError, match="nothing listens there"):
            open_link(f"tcp://127.0.0.1:{port}")

    def test_nothing_listens_on_udp(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        link = open_link(f"udp://127.0.0.1:{port}")
        with pytest.raises(LinkError, match="nothing listens there"):
            exchange(link)
        link.close()

    def test_host_without_address(self):
        with pytest.raises(LinkError, match="no-such-host"):
            open_link("udp://no-such-host.invalid:7700")

    @pytest.mark.parametrize("scheme", ["tcp", "udp"])
    @pytest.mark.parametrize("open_end", [open_link, serve_link])
    def test_host_that_none_can_be_called(self, scheme, open_end):
        with pytest.raises(LinkError, match=r"label|Name or service not known"):
            open_end(f"{scheme}://{'a' * 64}:7")

    @pytest.mark.parametrize("scheme", ["tcp", "udp"])
    def test_address_in_use(self, scheme):
        server = serve_link(f"{scheme}://127.0.0.1:0")
        with pytest.raises(LinkError, match="in use; choose another"):
            serve_link(server.url)
        server.close()

    @pytest.mark.parametrize("scheme", ["tcp", "udp"])
    def test_address_of_another_machine(self, scheme):
        with pytest.raises(LinkError, match="no address of this machine"):
            serve_link(f"{scheme}://192.0.2.1:7700")

    def test_bridge_opens_no_pty(self):
        with pytest.raises(LinkUrlError, match="serial:// URL"):
            open_link("pty:")


def test_tcp_serves_one_client_at_a_time():
    server = serve_link("tcp://127.0.0.1:0")
    first = open_link(server.url)
    server.receive(1.0)
    second = open_link(server.url)
    server.receive(1.0)
    with pytest.raises(LinkError, match="closed"):
        second.receive(5.0)
    first.send(b"still here")
    assert receive_all(server, 10) == b"still here"
    for link in (first, second, server):
        link.close()


def test_receive_wakes_up_for_data_sent_meanwhile():
    server = serve_link("pty:")
    client = open_link(server.url)
    sender = threading.Thread(target=server.send, args=(b"late",))
    sender.start()
    assert receive_all(client, 4) == b"late"
    sender.join()
    client.close()
    server.close()


class TestUrls:
    def test_serial(self):
        url = parse_link_url("serial:///dev/ttyUSB0?baudrate=115200")
        assert (url.scheme, url.path, url.baudrate) == ("serial", "/dev/ttyUSB0", 115200)
        assert parse_link_url("serial:///dev/ttyACM1").baudrate == 1_000_000

    @pytest.mark.parametrize("scheme", ["udp", "tcp"])
    def test_network(self, scheme):
        url = parse_link_url(f"{scheme}://robot.local:7700")
        assert (url.scheme, url.host, url.port) == (scheme, "robot.local", 7700)
        assert parse_link_url(f"{scheme}://[::1]:7700").host == "::1"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "one of the schemes serial, udp, tcp, pty"),
            ("/dev/ttyUSB0", "serial:///dev/ttyUSB0"),
            ("can://bus", "one of the schemes"),
            ("serial://ttyUSB0", "path of a port"),
            ("serial:///", "path of a port"),
            ("serial:///dev/ttyUSB0?baudrate=fast", "baudrate must be a positive number, found 'fast'"),
            ("serial:///dev/ttyUSB0?baudrate=0", "baudrate"),
            ("serial:///dev/ttyUSB0?parity=even", "unknown option parity"),
            ("udp://host", "expected host:port; for example udp://192.168.1.10:7700"),
            ("udp://:7700", "host:port"),
            ("udp://host:port", "[Pp]ort"),
            ("udp://host:99999", "range"),
            ("tcp://host:1/path", "host:port"),
            ("tcp://host:1?baudrate=9600", "unknown option baudrate"),
            ("pty:/dev/pts/3", "no address"),
        ],
    )
    def test_refused(self, text, reason):
        with pytest.raises(LinkUrlError, match=reason):
            parse_link_url(text)
