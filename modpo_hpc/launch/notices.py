"""Tell a person, by mail or webhook. What cannot be delivered is said, and stops nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage

SECONDS = 20


def send_mail(address: str, subject: str, words: str) -> str | None:
    """Hand a mail to this machine's sendmail or mail; returns why not, if it cannot be."""
    message = EmailMessage()
    message["To"], message["Subject"] = address, subject
    message.set_content(words)
    if program := shutil.which("sendmail"):
        command, text = [program, "-t"], message.as_string()
    elif program := shutil.which("mail"):
        command, text = [program, "-s", subject, address], words
    else:
        return "no mail was sent: neither sendmail nor mail is on this machine"
    try:
        subprocess.run(command, input=text, text=True, check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no mail was sent: {error}"
    return None


def post(url: str | None, notice: Mapping[str, str]) -> str | None:
    """Send ``notice`` as JSON to ``url``, if there is one; returns why not, if it cannot be. The URL is a secret."""
    if not url:
        return None
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, json.dumps(notice).encode(), headers)
        with urllib.request.urlopen(request, timeout=SECONDS):
            return None
    except (OSError, ValueError) as error:
        return f"the webhook was not reached: {type(error).__name__}"
