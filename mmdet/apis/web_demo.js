'use strict';
/* Recording with the camera. Read by web_demo.py and loaded before the scripts of Gradio, whose recorder has three
   faults if the camera is slow or cannot be used:
   - Record does nothing until the list of cameras has been read, although it is already shown: the stream is unknown;
   - Stop uploads the data that has arrived until then, which is an empty file before the first picture, and which lacks
     the last ones later;
   - nothing is shown while the camera is opened, or if that fails. */
(() => {
  const REASONS = {
    NotAllowedError: 'its use is not allowed; allow it in the settings of the browser',
    NotFoundError: 'none was found; connect one or upload a video',
    SecurityError: 'browsers allow it only at 127.0.0.1, localhost and https:// addresses; upload a video',
    NotReadableError: 'it cannot be opened; close other programs that use it',
  };
  const say = text => {
    const line = document.querySelector('#camera p');
    if (line) line.textContent = text;
  };

  let stream, recorder;
  if (!navigator.mediaDevices) // the page is neither local nor served over HTTPS
    Object.defineProperty(navigator, 'mediaDevices', {value: {
      getUserMedia: async () => { throw new DOMException('insecure address', 'SecurityError'); },
      enumerateDevices: async () => [],
    }});
  const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async constraints => {
    say('Waiting for the camera. Allow its use if the browser asks for it.');
    try {
      stream = await open(constraints);
    } catch (error) {
      say(`Error: the camera cannot be used: ${REASONS[error.name] ?? error.message}.`);
      throw error;
    }
    say('');
    return stream;
  };

  window.MediaRecorder = class extends MediaRecorder {
    constructor(given, options) {
      super(given ?? stream, options);
      recorder = this;
      this.bytes = 0;
      this.addEventListener('dataavailable', event => { this.bytes += event.data.size; });
    }

    /* Wait until there is data, or the camera is disconnected; then end the recording and wait until all data of it has
       been delivered. */
    async finish() {
      const next = type => new Promise(resolve => this.addEventListener(type, resolve, {once: true}));
      const stopped = next('stop');
      if (!this.bytes) say('Waiting for the first picture of the camera. If it does not come, check the camera.');
      while (!this.bytes && this.state !== 'inactive') await Promise.race([next('dataavailable'), stopped]);
      if (this.state !== 'inactive') this.stop();
      await stopped;
      say(this.bytes ? '' : 'Error: the camera was disconnected before its first picture; record again.');
    }
  };

  addEventListener('click', async event => {
    const button = event.target.closest?.('#video .capture-button');
    if (!button || recorder?.state !== 'recording') return; // Record, or the click below
    event.stopImmediatePropagation();
    if (recorder.finishing) return;
    recorder.finishing = true;
    await recorder.finish();
    button.click();
  }, true);
})();
