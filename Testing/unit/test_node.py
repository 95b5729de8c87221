"""A node and its peers: what is accepted, what comes out, and what is refused; everything through the network."""

import copy
import json
import queue
import shutil
import socket
import ssl
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_samples import HU, slices_of, write_scan
from IPv2Lib.cli.commands import main
from IPv2Lib.io import files
from node_peers import DENOISE, SECONDS, Running, archive, associate, drained, free_port, node_file, read, send
from pydicom.uid import generate_uid


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> list[pydicom.Dataset]:
    """A series of four slices."""
    return slices_of(write_scan(tmp_path_factory.mktemp("scan") / "scan"))


def uids(datasets) -> list[str]:
    """Of the instances, in the order of their positions."""
    return [each.SOPInstanceUID for each in sorted(datasets, key=lambda each: each.ImagePositionPatient[2])]


def changed(slices, **elements) -> list[pydicom.Dataset]:
    """Other instances that differ in some elements."""
    found = copy.deepcopy(list(slices))
    for each in found:
        for keyword, value in ({"SOPInstanceUID": generate_uid()} | elements).items():
            setattr(each, keyword, value)
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
    return found


def test_a_series_comes_back_as_ipv2_denoise_makes_it(slices, tmp_path):
    with archive() as (pacs, received), Running(node_file(tmp_path, pacs=pacs)) as node:
        assert associate(node.port).send_c_echo().Status == 0
        assert send(node.port, slices) == [0, 0, 0, 0]
        done, sent = node.wait("denoised"), node.wait("sent")
        assert (done["slices"], done["rule"], sent["files"], sent["destination"]) == (4, 0, 4, "pacs")
    results = sorted(drained(received), key=lambda each: each.ImagePositionPatient[2])
    scan = tmp_path / "scan"
    scan.mkdir()
    for index, each in enumerate(slices):
        each.save_as(scan / f"{index}.dcm")
    assert main(["denoise", str(scan), f"{tmp_path}/out/", "--model", "ipv2-fast", "--device", "cpu"]) == 0
    expected = read(tmp_path / "out")
    for new, old, same in zip(results, slices, expected, strict=True):
        assert np.array_equal(new.pixel_array, same.pixel_array)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert new[keyword] == old[keyword]
        assert new.SeriesDescription == "IPv2 ipv2-fast strength 1, not for diagnosis: Chest 2.5 B50f"
        assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert "not for diagnosis" in node.said[0]["note"]


def test_the_log_names_no_patient(slices, tmp_path):
    with archive() as (pacs, _), Running(node_file(tmp_path, pacs=pacs)) as node:
        send(node.port, slices)
        node.wait("sent")
        send(node.port, changed(slices[:2], SeriesInstanceUID="1.2.3.77", RescaleSlope=None))
        node.wait("aside")
    text = json.dumps(node.said, ensure_ascii=False)
    for private in ("Müller", "0815", "1.2.3", "Chest", *uids(slices)):
        assert private not in text
    for path in (tmp_path / "queue").rglob("*"):
        assert "1.2.3" not in path.name


def test_a_resend_to_another_node_makes_the_same_uids(slices, tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with archive() as (pacs, received), Running(node_file(tmp_path / name, pacs=pacs)) as node:
            send(node.port, slices)
            node.wait("sent")
        made.append(drained(received))
    assert uids(made[0]) == uids(made[1])
    assert {each.SeriesInstanceUID for each in made[0]} == {each.SeriesInstanceUID for each in made[1]}


def test_late_slices_make_a_new_result_that_says_what_it_replaces(slices, tmp_path):
    with archive() as (pacs, received), Running(node_file(tmp_path, pacs=pacs)) as node:
        send(node.port, slices[:3])
        node.wait("sent")
        first = drained(received)
        send(node.port, slices[2:])
        assert node.wait("denoised")["slices"] == 4
        node.wait("sent")
        second = drained(received)
    assert (len(first), len(second)) == (3, 4)
    assert not set(uids(first)) & set(uids(second))
    replaced = f"replaces series {first[0].SeriesInstanceUID}"
    assert all(each.DerivationDescription.endswith(replaced) for each in second)
    assert not any("replaces" in each.SeriesDescription + first[0].DerivationDescription for each in second)


def test_what_cannot_be_denoised_is_kept_with_the_reason_and_sent_on_if_that_is_wanted(slices, tmp_path):
    broken = [slices[0], slices[2], slices[3]]  # one is lost
    rules = f"{DENOISE}forward_failed = true\n"
    with archive() as (pacs, received), Running(node_file(tmp_path, rules, pacs)) as node:
        send(node.port, broken)
        aside = node.wait("aside")
        node.wait("sent")
    assert "slice" in json.loads((tmp_path / "queue" / aside["see"]).read_text())["reason"]
    assert uids(drained(received)) == uids(broken)


def test_series_that_are_sent_together_are_not_mixed(slices, tmp_path):
    other = changed(slices, SeriesInstanceUID="1.2.3.5", PatientID="4711")
    mixed = [each for pair in zip(slices, other, strict=True) for each in pair]
    with archive() as (pacs, received), Running(node_file(tmp_path, pacs=pacs)) as node:
        send(node.port, [*mixed, *mixed[:3]])
        for _ in range(2):
            node.wait("sent")
    results = drained(received)
    for patient in ("0815", "4711"):
        own = [each for each in results if each.PatientID == patient]
        assert len(own) == len({each.SOPInstanceUID for each in own}) == 4
        assert len({each.SeriesInstanceUID for each in own}) == 1


def test_what_no_rule_fits_and_what_is_kept_is_not_sent(slices, tmp_path):
    rules = '[[rules]]\nkernel = "B50f"\naction = "keep"\n[[rules]]\nkernel = "x"\naction = "keep"\n'
    with archive() as (pacs, received), Running(node_file(tmp_path, rules, pacs)) as node:
        send(node.port, slices)
        node.wait("kept")
        send(node.port, changed(slices, SeriesInstanceUID="1.2.3.6", ConvolutionKernel="I50f"))
        node.wait("no rule")
    assert drained(received) == []


def test_a_destination_that_is_away_gets_everything_once_when_it_is_back(slices, tmp_path):
    port = free_port()
    with Running(node_file(tmp_path, pacs=port)) as node:
        send(node.port, slices)
        pauses = [node.wait("away")["again_in"] for _ in range(4)]
        with archive(port) as (_, received):
            node.wait("sent")
        assert pauses == [0.02, 0.04, 0.08, 0.1]
        assert len(drained(received)) == 4
    with archive(port) as (_, received), Running(node.file) as again:
        send(again.port, slices)  # nothing new
        again.wait("association")
    assert drained(received) == []


def test_one_result_that_is_refused_does_not_stop_the_others(slices, tmp_path):
    port = free_port()
    with Running(node_file(tmp_path, pacs=port)) as node:
        send(node.port, slices)
        with archive(port, status=0xC000):
            while node.wait("away")["reason"] != "status C000":
                pass
        with archive(port) as (_, received):
            node.wait("sent")
    assert len(set(uids(drained(received)))) == 4


def test_a_stop_and_a_start_go_on_where_they_were(slices, tmp_path):
    file = node_file(tmp_path, complete_at_release=False, quiet_seconds=3600)
    with Running(file) as node:
        send(node.port, slices)
    assert {line["event"] for line in node.said} == {"listening", "association", "stopped"}
    with archive() as (pacs, received):
        with Running(node_file(tmp_path, pacs=pacs, quiet_seconds=0)) as again:
            again.wait("sent")
        assert len(drained(received)) == 4
    assert not list((tmp_path / "queue" / "work").iterdir())


def test_a_second_node_on_the_same_queue_is_refused(tmp_path, capfd):
    with Running(node_file(tmp_path)):
        assert main(["node", "--status", str(tmp_path / "node.toml")]) == 0
        assert main(["node", str(tmp_path / "node.toml")]) == 2
    assert "is in use by 'ipv2 node'" in capfd.readouterr().err
    assert main(["node", "--status", str(tmp_path / "node.toml")]) == 1


@pytest.mark.parametrize(
    ("title", "called", "result", "what"),
    [("STRANGER", "IPV2", (1, 1, 3), "caller AE title"), ("SCANNER", "OTHER", (1, 1, 7), "called AE title")],
)
def test_who_is_not_on_the_list_gets_no_association(title, called, result, what, tmp_path):
    with Running(node_file(tmp_path)) as node:
        association = associate(node.port, title, called)
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == result
        assert node.wait("refused")["what"] == what
    assert sum(line["event"] == "refused" for line in node.said) == 1


def test_a_full_disk_is_said_by_the_standard_and_nothing_is_kept(slices, tmp_path):
    with Running(node_file(tmp_path, least_free_mb=1e12)) as node:
        assert send(node.port, slices) == [0xA700] * 4
        assert node.wait("refused")["status"] == "A700"
    assert not list((tmp_path / "queue" / "series").iterdir())


def test_a_queue_that_cannot_be_written_refuses_and_recovers(slices, tmp_path):
    with Running(node_file(tmp_path, '[[rules]]\naction = "keep"')) as node:
        work = tmp_path / "queue" / "work"
        shutil.move(work, tmp_path / "aside")
        work.write_text("a file in its place")
        assert send(node.port, slices) == [0xA700] * 4
        work.unlink()
        shutil.move(tmp_path / "aside", work)
        assert send(node.port, slices) == [0] * 4
        node.wait("kept")


@pytest.mark.parametrize(
    ("elements", "status"),
    [({"SeriesInstanceUID": None}, 0xC000), ({"StudyInstanceUID": ""}, 0xC000)],
)
def test_instances_that_belong_nowhere_are_refused(elements, status, slices, tmp_path):
    with Running(node_file(tmp_path)) as node:
        assert send(node.port, changed(slices[:1], **elements)) == [status]
        assert node.wait("refused")["status"] == f"{status:04X}"


HOSTILE = {
    "no DICOM": b"GET / HTTP/1.1\r\n\r\n",
    "an unknown PDU": b"\x09\x00\x00\x00\x00\x04abcd",
    "four gigabytes": b"\x01\x00\xff\xff\xff\xff" + b"\x00" * 100,
    "an association of noise": b"\x01\x00\x00\x00\x00\x80" + bytes(range(128)),
    "data without association": b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03",
    "nothing": b"",
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_hostile_connections_are_one_line_each(sent, tmp_path):
    with Running(node_file(tmp_path)) as node:
        with socket.create_connection(("127.0.0.1", node.port), SECONDS) as link:
            link.sendall(sent)
            link.shutdown(socket.SHUT_WR)
            while link.recv(4096):
                pass
        assert node.wait("refused")["what"] == "connection"
        assert associate(node.port).send_c_echo().Status == 0
    assert sum(line["event"] == "refused" for line in node.said) == 1


def test_an_instance_that_is_larger_than_allowed_ends_its_association(slices, tmp_path):
    large = changed(slices[:1], PixelData=bytes(400_000), Rows=500, Columns=400)
    with Running(node_file(tmp_path, largest_mb=0.3)) as node:
        association = associate(node.port)
        assert not association.send_c_store(large[0])
        assert node.wait("association")["end"] == "aborted"
        assert send(node.port, slices) == [0] * 4


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate for 127.0.0.1 with its key, which signs itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "me.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_with_tls_plain_callers_are_refused_and_silent_ones_keep_nobody_out(certificate, tmp_path):
    rules = f'{DENOISE}\n[tls]\ncertificate = "{certificate}"\nca = "{certificate}"\n'
    with Running(node_file(tmp_path, rules)) as node:
        with socket.create_connection(("127.0.0.1", node.port), SECONDS):  # and says nothing
            context = ssl.create_default_context(cafile=certificate)
            context.load_cert_chain(certificate)
            encrypted = associate(node.port, tls_args=(context, "127.0.0.1"))
            assert encrypted.send_c_echo().Status == 0
            encrypted.release()
        assert not associate(node.port).is_established
        nobody = ssl.create_default_context(cafile=certificate)
        assert not associate(node.port, tls_args=(nobody, "127.0.0.1")).is_established
        reasons = [node.wait("refused")["reason"] for _ in range(3)]
    assert any("SSL" in reason for reason in reasons)


def test_a_destination_with_tls_gets_what_is_sent_encrypted(certificate, slices, tmp_path):
    (tmp_path / "far").mkdir()
    tls = f'\n[tls]\ncertificate = "{certificate}"\n'
    far = node_file(tmp_path / "far", '[[rules]]\naction = "keep"' + tls, callers=["IPV2"], ae_title="PACS")
    with Running(far) as second:
        near = node_file(tmp_path, pacs=second.port)
        near.write_text(near.read_text().replace('name = "pacs"', f'name = "pacs"\ntls = true\nca = "{certificate}"'))
        with Running(near) as first:
            send(first.port, slices)
            first.wait("sent")
            second.wait("kept")
    (kept,) = (tmp_path / "far" / "queue" / "series").iterdir()
    assert files.read(kept).array.shape == HU.shape


def test_twenty_associations_at_once_lose_nothing(slices, tmp_path):
    import threading

    answers: queue.Queue = queue.Queue()
    with Running(node_file(tmp_path, '[[rules]]\naction = "keep"')) as node:
        threads = [
            threading.Thread(
                target=lambda own: answers.put(send(node.port, own)),
                args=(changed(slices, SeriesInstanceUID=f"1.2.3.{number + 100}"),),
            )
            for number in range(20)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(SECONDS)
        for _ in range(20):
            node.wait("kept")
    assert [answers.get_nowait() for _ in range(20)] == [[0, 0, 0, 0]] * 20
    kept = list((tmp_path / "queue" / "series").iterdir())
    assert [len(list(each.glob("*.dcm"))) for each in kept] == [4] * 20
